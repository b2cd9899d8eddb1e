"""Search columns after pg_dump and pg_restore into another cluster, and in a database that lost a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from stack.postgres import Cluster
from tests.fix_stack import Database
from tests.integration.operations.fix_clusters import run
from tests.integration.search.fix_users import make_users

ONE = "user17@example.org"
FORMATS: dict[str, tuple[list[str], list[str]]] = {
    "custom": (["--format=custom"], ["--single-transaction"]),
    "directory": (["--format=directory", "--jobs=2"], ["--jobs=4"]),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_restored_database_searches_and_writes(
    db: Database,
    other_cluster: Cluster,
    empty_database: Callable[[str], str],
    tmp_path: Path,
    kind: str,
) -> None:
    make_users(db, count=50)
    db.sql("GRANT SELECT (id, email_search) ON users TO alice")
    dumping, restoring = FORMATS[kind]
    run(db.stack.cluster, db.name, "pg_dump", *dumping, "--file", tmp_path / "dump")
    name = empty_database(f"searched_{kind}")
    run(other_cluster, name, "pg_restore", *restoring, "--dbname", name, tmp_path / "dump")
    with other_cluster.connect(name, "alice") as alice:
        assert alice.execute("SELECT id FROM users WHERE email_search = %s", [ONE]).fetchall() == [(17,)]
        assert alice.execute("SELECT id FROM users WHERE email_search = ANY (%s)", [[ONE]]).fetchall() == [(17,)]
    with other_cluster.connect(name) as connection:
        connection.execute("SELECT envelope.this_is_the_original()")
        connection.execute("INSERT INTO users VALUES (99, 1, 'new@example.org', 'x', NULL)")
        found = connection.execute("SELECT id FROM users WHERE email_search = 'new@example.org'").fetchall()
        assert found == [(99,)]
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO users VALUES (100, 1, %s, 'x', NULL)", [ONE])
        connection.execute("CALL envelope.refresh('users')")
        connection.execute("UPDATE users SET email = 'z@example.org' WHERE id = 1")
        assert connection.execute("SELECT id FROM users WHERE email_search = 'z@example.org'").fetchall() == [(1,)]
        connection.execute("CALL envelope.unprotect('users')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO users VALUES (100, 1, %s, 'x', NULL)", [ONE])


def test_the_extension_can_be_dropped_after_unprotect(db: Database) -> None:
    make_users(db, count=5)
    db.sql("DROP TABLE users_encrypted CASCADE")
    make_users(db, count=5)
    db.sql("CALL envelope.unprotect('users')")
    db.sql("SELECT envelope.forget_all_keys(current_database())")
    db.sql("DROP EXTENSION pg_envelope")


def test_a_dropped_table_leaves_nothing_in_the_way(db: Database) -> None:
    make_users(db, count=5)
    db.sql("DROP TABLE users_encrypted CASCADE")
    make_users(db, count=5)
    assert db.one("SELECT id FROM users WHERE email_search = 'user3@example.org'") == 3
