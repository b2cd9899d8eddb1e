"""Living copies of a database: they know that they are, and destroy nothing of the original's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from stack.postgres import Cluster
from stack.processes import folder
from stack.stack import Stack
from tests.fix_stack import SETTINGS, Database
from tests.integration.operations.fix_clusters import run
from tests.integration.operations.fix_kms_life import failure

Connection = psycopg.Connection[Any]

STATUS = "SELECT state, detail, hint FROM envelope.status() WHERE check_name = 'original'"
READ = "SELECT email FROM person ORDER BY id"
ROWS = [("a@b.c",), ("d@e.f",)]
MAYBE = "pg_envelope: this database may be a copy, and would destroy the keys of the original with its own"


@pytest.fixture
def original(policy: Stack, db: Database) -> Database:
    """A table with a retired version, one with a key for each row, and a named key. KV entries may be deleted."""
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    db.sql("INSERT INTO person VALUES (1, 'a@b.c'), (2, 'd@e.f')")
    db.sql("""CALL envelope.protect('person', '["email"]', store => 'catalog')""")
    db.sql("SELECT envelope.rotate('person'); SELECT envelope.create_key('api')")
    db.sql("CALL envelope.reencrypt('person')")
    db.sql("SELECT envelope.set_schedule('dek', interval '90 days', grace => interval '0')")
    db.sql("CALL envelope.retire('person', 1)")
    db.sql("CREATE TABLE visit (id int PRIMARY KEY, note text)")
    db.sql("""CALL envelope.protect('visit', '["note"]', scope => 'subject', scope_column => 'id')""")
    db.sql("INSERT INTO visit VALUES (1, 'flu'), (2, 'cold')")
    return db


@contextmanager
def by_template(original: Database) -> Iterator[Connection]:
    original.close()
    name = f"{original.name}_copy"
    with original.stack.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {original.name}")
        try:
            with original.stack.connect(name) as copy:
                yield copy
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def by_template_of(home: Connection, original: Database) -> AbstractContextManager[Connection]:
    """Nobody may be connected to a template."""
    home.close()
    return by_template(original)


@contextmanager
def by_dump(original: Database, dump: Path) -> Iterator[Connection]:
    name = f"{original.name}_restored"
    run(original.stack.cluster, original.name, "pg_dump", "-Fc", "-f", dump)
    with original.stack.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            run(original.stack.cluster, name, "pg_restore", "--exit-on-error", "-d", name, dump)
            with original.stack.connect(name) as copy:
                yield copy
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def by_base_backup(original: Database) -> Iterator[Connection]:
    stack = original.stack
    cluster = Cluster(
        folder(stack.home / f"beside_{original.name}", 0o711), environment=stack.cluster.environment, settings=SETTINGS
    )
    folder(cluster.socket_directory, 0o700, cluster.account)
    folder(cluster.data, 0o700, cluster.account)
    cluster._hba_file.write_text(stack.cluster._hba_file.read_text())
    stack.cluster.program("pg_basebackup", "--pgdata", cluster.data, "--checkpoint=fast", "--no-sync")
    cluster.start()
    try:
        with cluster.connect(original.name) as copy:
            yield copy
    finally:
        cluster.stop()


@pytest.fixture(params=["template", "dump", "base backup"])
def copy(request: pytest.FixtureRequest, original: Database, tmp_path: Path) -> Iterator[Connection]:
    made = {
        "template": lambda: by_template(original),
        "dump": lambda: by_dump(original, tmp_path / "dump"),
        "base backup": lambda: by_base_backup(original),
    }[request.param]()
    with made as connection:
        yield connection


@pytest.fixture
def home(original: Database) -> Iterator[Connection]:
    with original.stack.connect(original.name) as connection:
        yield connection


DESTROYING = {
    "a retired version": "CALL envelope.retire('person', 1, destroy => true)",
    "a table": "CALL envelope.shred('person', reason => 'x')",
    "a subject": "CALL envelope.shred('visit', '1', 'x')",
    "a named key": "CALL envelope.shred_key('api', 'x')",
    "what the ledger says": "SELECT envelope.replay_erasures(destroy_active => true)",
}


def test_a_copy_says_so_and_destroys_nothing_until_it_is_told(
    original: Database, copy: Connection, home: Connection
) -> None:
    ((state, detail, hint),) = copy.execute(STATUS).fetchall()
    assert state == "warning"
    assert f"Its keys were made in database {original.name}" in detail
    assert "this_is_the_original" in hint
    keys = copy.execute("SELECT dek_id, state FROM envelope.keys ORDER BY 1").fetchall()
    for statement in DESTROYING.values():
        sqlstate, text, hint = failure(copy, statement)
        assert (sqlstate, text) == ("55000", MAYBE)
        assert "CALL envelope.rekey('default')" in hint
    assert copy.execute("SELECT dek_id, state FROM envelope.keys ORDER BY 1").fetchall() == keys
    assert copy.execute(READ).fetchall() == ROWS
    copy.execute("INSERT INTO visit VALUES (3, 'new'); SELECT envelope.rotate('person')")
    home.execute("SELECT envelope.flush('test')")
    assert home.execute(READ).fetchall() == ROWS
    assert home.execute("SELECT count(note) FROM visit").fetchall() == [(2,)]


def test_a_copy_with_keys_of_its_own_destroys_these_only(copy: Connection, home: Connection) -> None:
    copy.execute("CALL envelope.rekey('default')")
    assert copy.execute(STATUS).fetchall()[0][0] == "ok"
    for statement in DESTROYING.values():
        copy.execute(statement)
    assert failure(copy, READ)[0] == "55000"
    home.execute("SELECT envelope.flush('test')")
    assert home.execute(READ).fetchall() == ROWS
    assert home.execute("SELECT count(note) FROM visit").fetchall() == [(2,)]
    assert home.execute("SELECT check_name FROM envelope.status() WHERE state = 'failed'").fetchall() == []


def test_who_says_that_it_is_the_original_may_destroy(copy: Connection) -> None:
    copy.execute("SELECT envelope.this_is_the_original()")
    assert copy.execute(STATUS).fetchall()[0][0] == "ok"
    copy.execute("CALL envelope.shred('visit', '1', 'ticket 7')")
    assert failure(copy, "SELECT note FROM visit WHERE id = 1")[0] == "55000"


def test_what_a_copy_erased_all_the_same_is_not_replayed_over_keys_in_use(
    copy: Connection, home: Connection, original: Database
) -> None:
    """Somebody said in the copy that it was the original."""
    copy.execute("SELECT envelope.this_is_the_original()")
    for statement in list(DESTROYING.values())[:4]:
        copy.execute(statement)
    told: list[tuple[str | None, str | None]] = []
    home.add_notice_handler(lambda report: told.append((report.message_primary, report.message_detail)))
    found = home.execute("SELECT destroyed_again, in_use FROM envelope.replay_erasures()").fetchall()
    assert found == [(1, 3)], "the version that was retired here, too; and a table's, a subject's and a named key"
    ((text, detail),) = told
    assert text == "3 erased keys are in use here, and were left as they are"
    assert "person version 2 (DEK " in str(detail)
    assert "erased by postgres at " in str(detail)
    states = home.execute("SELECT DISTINCT state FROM envelope.keys WHERE version = 2 OR name = 'api'").fetchall()
    assert states == [("active",)]
    ((state, detail, hint),) = home.execute(
        "SELECT state, detail, hint FROM envelope.status() WHERE check_name = 'erasures'"
    ).fetchall()
    assert state == "warning"
    assert "copies.md" in str(hint)
    assert home.execute("SELECT destroyed_again, in_use FROM envelope.replay_erasures(true)").fetchall() == [(3, 0)]


def test_with_the_ledger_of_before_the_original_reads_again(original: Database, home: Connection) -> None:
    broker = original.stack.broker
    held = {path: path.read_bytes() for path in broker.erasures.parent.iterdir()}
    with by_template_of(home, original) as copy:
        copy.execute("SELECT envelope.this_is_the_original()")
        copy.execute("CALL envelope.shred('person', reason => 'by mistake')")
    with original.stack.connect(original.name) as session:
        assert failure(session, READ)[0] == "55000"
        session.execute("SELECT envelope.replay_erasures()")
        broker.stop()
        for path, content in held.items():
            path.write_bytes(content)
        broker.start()
        assert session.execute(READ).fetchall() == ROWS


def test_the_original_may_destroy_while_a_copy_lives_and_hears_of_it(copy: Connection, home: Connection) -> None:
    for _ in range(2):
        for session in (home, copy):
            session.execute("SELECT envelope.flush('test')")
            session.execute(READ)
    ((state, detail, hint),) = home.execute(STATUS).fetchall()
    assert state == "warning"
    assert detail.startswith(f"a copy of this database is alive: {copy.info.dbname}, ")
    assert "rekey" in hint
    home.execute("CALL envelope.shred('visit', '1', 'ticket 7')")
    told: list[str] = []
    copy.add_notice_handler(lambda report: told.append(report.message_primary or ""))
    copy.execute("SELECT envelope.this_is_the_original()")
    assert any(text.startswith("another database with these keys is alive: ") for text in told)


def test_a_restart_and_a_new_name_make_no_copy(original: Database, home: Connection) -> None:
    home.close()
    original.close()
    renamed = f"{original.name}_renamed"
    original.stack.cluster.restart()
    with original.stack.connect("postgres") as connection:
        connection.execute(f"ALTER DATABASE {original.name} RENAME TO {renamed}")
        try:
            with original.stack.connect(renamed) as session:
                assert session.execute(STATUS).fetchall()[0][0] == "ok"
                session.execute("CALL envelope.shred('visit', '1', 'ticket 7')")
        finally:
            connection.execute(f"ALTER DATABASE {renamed} RENAME TO {original.name}")


def test_a_database_without_keys_is_nobodys_copy(db: Database) -> None:
    assert db.one(STATUS) == "ok"
    assert failure(db.connect(), "SELECT envelope.this_is_the_original()")[0] == "42704"


SPEAK_AS_A_TWIN = """
DO LANGUAGE plpython3u $$
session = GD['pg_envelope']
here = session.link.who
session.link.who = lambda: {**here(), 'instance': here()['instance'].rpartition('/')[0] + '/1700000000.000000'}
uuid = plpy.execute('SELECT database_uuid::text AS uuid FROM envelope_private.installation')[0]['uuid']
session.link.ask('erasures', database_uuid=uuid, after=0, most=0, verify=False)
session.link.who = here
$$"""


def test_a_copy_of_the_whole_machine_is_seen_by_the_broker(home: Connection) -> None:
    """Cluster, database and directory are alike then; what differs is when the server started."""
    home.execute("SELECT envelope.status()")
    home.execute(SPEAK_AS_A_TWIN)
    sqlstate, text, hint = failure(home, "CALL envelope.shred('visit', '1', 'x')")
    assert (sqlstate, text) == (
        "55000",
        "pg_envelope: two servers with this database, and with the same data directory, are alive",
    )
    assert "rekey" in hint
    assert home.execute("SELECT count(note) FROM visit").fetchall() == [(2,)]
