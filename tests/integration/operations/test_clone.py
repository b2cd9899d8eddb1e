"""Copies that PostgreSQL makes itself (CREATE DATABASE ... TEMPLATE, standbys), and dropping the extension."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from stack.postgres import Cluster
from stack.processes import folder, wait_until
from stack.stack import Stack
from tests.fix_stack import SETTINGS, Database

PROTECT = """CALL envelope.protect('person', '["email"]')"""
ROWS = [("a@b.c",), ("d@e.f",)]


def test_a_template_clone_is_readable_and_goes_its_own_way(stack: Stack, people: Database) -> None:
    people.close()
    clone = f"{people.name}_clone"
    with stack.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE {clone} TEMPLATE {people.name}")
    try:
        with stack.connect(clone) as cloned, stack.connect(people.name) as original:
            for connection, email in ((original, "original"), (cloned, "clone")):
                connection.execute("SELECT envelope.rotate('person')")
                connection.execute("INSERT INTO person VALUES (3, %s)", [email])
                rows = connection.execute("SELECT id, email FROM person ORDER BY id").fetchall()
                assert rows == [(1, "a@b.c"), (2, "d@e.f"), (3, email)]
            moved = original.execute("SELECT email FROM person_encrypted WHERE id = 3").fetchone()
            assert moved is not None
            cloned.execute("UPDATE person_encrypted SET email = %s WHERE id = 3", moved)
            with pytest.raises(psycopg.Error):
                cloned.execute("SELECT email FROM person WHERE id = 3")
    finally:
        with stack.connect("postgres") as connection:
            connection.execute(f"DROP DATABASE {clone} WITH (FORCE)")


def test_drop_extension_is_refused_while_tables_need_it(people: Database) -> None:
    with pytest.raises(psycopg.errors.DependentObjectsStillExist):
        people.sql("DROP EXTENSION pg_envelope")
    assert people.sql("SELECT email FROM person ORDER BY id") == ROWS


def test_the_extension_can_be_dropped_and_made_again_once_nothing_is_protected(people: Database) -> None:
    people.sql("CALL envelope.unprotect('person')")
    people.sql(f"SELECT envelope.forget_all_keys('{people.name}')")
    people.sql("DROP EXTENSION pg_envelope")
    people.sql("CREATE EXTENSION pg_envelope")
    people.sql(PROTECT)
    assert people.sql("SELECT email FROM person ORDER BY id") == ROWS
    assert people.sql("SELECT check_name FROM envelope.status() WHERE state <> 'ok'") == []


def test_the_catalog_holds_no_type_that_pg_upgrade_refuses(db: Database) -> None:
    refused = [
        "regcollation",
        "regconfig",
        "regdictionary",
        "regnamespace",
        "regoper",
        "regoperator",
        "regproc",
        "regprocedure",
    ]
    found = db.sql(
        """SELECT attrelid::regclass::text, attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
        WHERE c.relnamespace = 'envelope_private'::regnamespace
            AND c.relkind = 'r' AND atttypid = ANY(%s::regtype[])""",
        refused,
    )
    assert found == []


@pytest.fixture
def standby(stack: Stack) -> Iterator[Cluster]:
    """A streaming physical standby of the stack's cluster."""
    home = folder(stack.home / "standby", 0o711)
    cluster = Cluster(home, environment=stack.cluster.environment, settings={**SETTINGS, "hot_standby": "on"})
    folder(cluster.socket_directory, 0o700, cluster.account)
    folder(cluster.data, 0o700, cluster.account)
    cluster._hba_file.write_text(stack.cluster._hba_file.read_text())
    copy = ("--write-recovery-conf", "--checkpoint=fast", "--wal-method=stream", "--no-sync")
    stack.cluster.program("pg_basebackup", "--pgdata", cluster.data, *copy)
    cluster.start()
    yield cluster
    cluster.stop()


def test_a_standby_reads_and_once_promoted_writes(stack: Stack, people: Database, standby: Cluster) -> None:
    people.sql("SELECT envelope.rotate('person')")
    people.sql("INSERT INTO person VALUES (3, 'new')")
    with standby.connect(people.name) as connection:
        count = "SELECT count(*) FROM person"
        wait_until(lambda: connection.execute(count).fetchone() == (3,), 60, "replay")
        rows = connection.execute("SELECT id, email FROM person ORDER BY id").fetchall()
        assert rows == [(1, "a@b.c"), (2, "d@e.f"), (3, "new")]
        assert connection.execute("SELECT check_name FROM envelope.status() WHERE state <> 'ok'").fetchall() == []
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("INSERT INTO person VALUES (4, 'newest')")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("SELECT envelope.rotate('person')")
        assert connection.execute("SELECT envelope.flush('a revocation') > 0").fetchone() == (True,)
        assert connection.execute("SELECT id, email FROM person ORDER BY id").fetchall() == rows
        connection.execute("SELECT pg_promote()")
        connection.execute("INSERT INTO person VALUES (4, 'newest')")
        connection.execute("SELECT envelope.rotate('person')")
        connection.execute("UPDATE person SET email = 'changed' WHERE id = 1")
        assert connection.execute("SELECT email FROM person ORDER BY id").fetchall() == [
            ("changed",),
            ("d@e.f",),
            ("new",),
            ("newest",),
        ]
