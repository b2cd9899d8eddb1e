"""Who may make names exchange, and what an exchange leaves behind: nothing, however it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from stack.processes import wait_until
from tests.fix_stack import Database, Fill
from tests.integration.operations.test_crash import kill_backend
from tests.integration.sql.test_hostile_owner import TRAP

Connection = psycopg.Connection[Any]
EXCHANGED = (
    "SELECT relkind::text, relname FROM pg_class WHERE oid IN ('t'::regclass, to_regclass('t_encrypted')) ORDER BY 2"
)
SETTLED = [("v", "t"), ("r", "t_encrypted")]
WAITS = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database())"
BY_HAND = "SELECT envelope_internal.begin_command('ALTER TABLE', 'SQL statement \"ALTER TABLE t ADD x int\"')"


def fill(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, v text, n int); INSERT INTO t VALUES (1, 'a', 2)")
    db.sql("ALTER TABLE t OWNER TO owner; GRANT SELECT, INSERT, UPDATE, DELETE ON t TO bob")
    db.sql("GRANT CREATE ON SCHEMA public TO bob")
    db.sql("""CALL envelope.protect('t', '["v"]')""")


def nothing(db: Database) -> None:
    """For the tests that make a table of their own."""


@pytest.fixture
def db(request: pytest.FixtureRequest, filled: Callable[[Fill], Database]) -> Database:
    """These tests destroy no key, so a copy will do."""
    return filled(fill if "table" in request.fixturenames else nothing)


@pytest.fixture
def table(db: Database) -> Database:
    return db


def settled(db: Database) -> bool:
    rows = db.sql("SELECT id, v, n FROM t")
    return db.sql(EXCHANGED) == SETTLED and rows == [(1, "a", 2)] and not db.sql("TABLE envelope_private.exchange")


@pytest.mark.parametrize("statement", ["ALTER TABLE t ADD x int", "DROP TABLE t", "CREATE INDEX ON t (n)"])
def test_nobody_but_the_owner_changes_a_table(table: Database, bob: Connection, statement: str) -> None:
    with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.WrongObjectType)):
        bob.execute(statement)  # type: ignore[arg-type]
    assert settled(table)


def test_nobody_but_the_owner_makes_names_exchange(table: Database, bob: Connection) -> None:
    with bob.transaction():
        bob.execute(BY_HAND)
        assert bob.execute(EXCHANGED).fetchall() == SETTLED
    assert settled(table)


def test_nobody_but_the_owner_holds_a_table_up(table: Database, owner: Connection, bob: Connection) -> None:
    with bob.transaction():
        bob.execute(BY_HAND)
        owner.execute("SET lock_timeout = '5s'; SET statement_timeout = '20s'")
        owner.execute("ALTER TABLE t ADD x int")
    assert settled(table)


def test_nobody_but_the_owner_begins_by_hand(table: Database, bob: Connection) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        bob.execute("SELECT envelope.begin_ddl('t')")
    bob.execute("SELECT envelope.end_ddl()")
    assert settled(table)


@pytest.mark.parametrize("begin", ["SELECT envelope.begin_ddl('t')", BY_HAND])
@pytest.mark.parametrize("end", ["COMMIT", "SET CONSTRAINTS ALL IMMEDIATE"])
def test_no_transaction_ends_in_the_middle(table: Database, owner: Connection, begin: str, end: str) -> None:
    owner.execute("BEGIN")
    owner.execute(begin)  # type: ignore[arg-type]
    assert owner.execute(EXCHANGED).fetchall()[0] == ("r", "t")
    with pytest.raises(psycopg.errors.InvalidTransactionTermination) as refused:
        owner.execute(end)  # type: ignore[arg-type]
    assert refused.value.diag.message_hint
    owner.rollback()
    assert settled(table)


def test_constraints_that_are_immediate_refuse_no_command(table: Database, owner: Connection) -> None:
    with owner.transaction():
        owner.execute("SET CONSTRAINTS ALL IMMEDIATE")
        owner.execute("ALTER TABLE t ADD x int")
    assert settled(table)


def test_a_savepoint_takes_an_exchange_back(table: Database, owner: Connection) -> None:
    with owner.transaction():
        owner.execute("SAVEPOINT a; SELECT envelope.begin_ddl('t'); ALTER TABLE t ADD x int; ROLLBACK TO a")
        assert owner.execute(EXCHANGED).fetchall() == SETTLED
        owner.execute("ALTER TABLE t ADD y int")
    assert [column.name for column in owner.execute("TABLE t").description or ()] == ["id", "v", "n", "y"]


def test_a_command_inside_a_command_gives_no_name_back_too_early(table: Database, owner: Connection) -> None:
    """Its error is caught, and takes only the inner command back."""
    owner.execute("""
        CREATE FUNCTION inner_ddl() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
            CREATE TABLE beside (t_id int REFERENCES t);
            BEGIN ALTER TABLE t ADD n int; EXCEPTION WHEN OTHERS THEN NULL; END;
            RETURN (SELECT count(*) FROM pg_class WHERE relname = 't' AND relkind = 'r'); END $$""")
    with owner.transaction():
        owner.execute("SELECT envelope.begin_ddl('t'); SELECT inner_ddl()")
        assert owner.execute(EXCHANGED).fetchall()[0] == ("r", "t")
        owner.execute("SELECT envelope.end_ddl()")
    assert settled(table)


def late(table: Database, owner: Connection, first: str, isolation: str = "READ COMMITTED") -> str | None:
    """The SQLSTATE of a command that another session gives while the owner's first one is not committed."""
    other, ended = table.connect("owner"), list[str | None]()
    other.execute(f"SET default_transaction_isolation = '{isolation}'")  # type: ignore[arg-type]

    def add() -> None:
        try:
            other.execute("ALTER TABLE t ADD y int")
            ended.append(None)
        except psycopg.Error as error:
            ended.append(error.sqlstate)

    owner.execute(f"BEGIN; {first}")  # type: ignore[arg-type]
    waiting = threading.Thread(target=add)
    waiting.start()
    wait_until(lambda: table.one(WAITS), 60, "the other session at the lock")
    owner.execute("COMMIT")
    waiting.join()
    return ended[0]


@pytest.mark.parametrize("first", ["ALTER TABLE t DROP n, ADD x int", "ALTER TABLE t RENAME n TO x"])
def test_two_sessions_change_one_table(table: Database, owner: Connection, first: str) -> None:
    assert late(table, owner, first) is None
    assert [column.name for column in owner.execute("TABLE t").description or ()] == ["id", "v", "x", "y"]


def test_a_snapshot_of_before_is_not_for_ddl(table: Database, owner: Connection) -> None:
    assert late(table, owner, "ALTER TABLE t ADD x int", "REPEATABLE READ") == "40001"


def test_a_name_that_another_session_gave_away_is_not_there(table: Database, owner: Connection) -> None:
    assert late(table, owner, "ALTER TABLE t RENAME TO u") == "42P01"
    assert table.sql("SELECT id, v, n FROM u") == [(1, "a", 2)]


def test_a_function_of_somebody_else_is_not_replaced(table: Database, owner: Connection, bob: Connection) -> None:
    bob.execute("CREATE FUNCTION u_envelope_insert() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="u_envelope_insert"):
        owner.execute("ALTER TABLE t RENAME TO u")
    source = "SELECT prosrc, proowner::regrole::text FROM pg_proc WHERE proname = 'u_envelope_insert'"
    assert table.sql(source) == [("BEGIN RETURN NULL; END", "bob")]
    assert settled(table)


def test_new_columns_come_before_search_columns(db: Database, owner: Connection) -> None:
    """VALUES without names of columns fits, as on a plain table."""
    owner.execute("CREATE TABLE t (id int PRIMARY KEY, v text UNIQUE); CREATE VIEW w AS SELECT v, v IS NULL FROM t")
    db.sql("""CALL envelope.protect('t', '["v"]')""")
    owner.execute("CREATE VIEW found AS SELECT id, v_search FROM t; ALTER TABLE t ADD x int")
    owner.execute("INSERT INTO t VALUES (1, 'a', 2)")
    assert [column.name for column in owner.execute("TABLE t").description or ()] == ["id", "v", "x", "v_search"]
    assert owner.execute("SELECT id FROM found WHERE v_search = 'a'").fetchall() == [(1,)]
    assert owner.execute("TABLE w").fetchall() == [("a", False)]


def test_the_last_protected_column_leaves_a_plain_table(table: Database, owner: Connection) -> None:
    owner.execute("CREATE VIEW w AS SELECT id, n FROM t; ALTER TABLE t DROP v")
    assert table.sql("SELECT relkind::text FROM pg_class WHERE oid = 't'::regclass") == [("r",)]
    assert table.sql("TABLE w") == [(1, 2)]
    assert table.sql("SELECT has_table_privilege('bob', 't', 'SELECT')") == [(True,)]
    assert table.sql("SELECT check_name FROM envelope.status() WHERE state = 'failed'") == []
    table.sql("""ALTER TABLE t ADD v text; CALL envelope.protect('t', '["v"]')""")
    owner.execute("DROP TABLE t CASCADE")
    assert table.sql("SELECT to_regclass('t'), to_regclass('t_encrypted'), to_regclass('w')") == [(None, None, None)]


@pytest.mark.parametrize("what", ["CREATE VIEW w AS SELECT v FROM t", "CREATE TABLE c (t_id int REFERENCES t)"])
def test_what_uses_a_table_keeps_it(table: Database, owner: Connection, what: str) -> None:
    owner.execute(what)  # type: ignore[arg-type]
    with pytest.raises(psycopg.errors.DependentObjectsStillExist):
        owner.execute("DROP TABLE t")
    assert settled(table)
    owner.execute("DROP TABLE t CASCADE")
    assert table.one("SELECT to_regclass('t')") is None


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE t ADD z nest DEFAULT '(a)', ADD y text DEFAULT 'x' CHECK (trap_later(y))",
        "ALTER TABLE t ADD z boolean DEFAULT trap_later('x'), DROP n",
        "CREATE INDEX ON t ((length(n::text)))",
        "ALTER TABLE t RENAME n TO m",
        "ALTER TABLE t DROP n",
        "CREATE POLICY p ON t USING (trap_later('x'))",
    ],
)
def test_code_of_the_owner_never_runs_as_anybody_else(db: Database, owner: Connection, statement: str) -> None:
    owner.execute(TRAP)
    owner.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text CHECK (trap_later(v)), n int, w nest[] DEFAULT '{\"(a)\"}')"
    )
    owner.execute("INSERT INTO t VALUES (1, 'a', 2)")
    db.sql("""CALL envelope.protect('t', '["v"]')""")
    db.sql("TRUNCATE seen")
    owner.execute(statement)  # type: ignore[arg-type]
    owner.execute("UPDATE t SET v = 'b'")
    assert db.sql("SELECT DISTINCT who FROM seen") == [("owner",)]
    assert not db.one("SELECT rolsuper FROM pg_roles WHERE rolname = 'owner'")


def test_a_killed_session_leaves_nothing(table: Database, owner: Connection) -> None:
    table.durable()
    owner.execute("BEGIN; SELECT envelope.begin_ddl('t'); ALTER TABLE t DROP n")
    kill_backend(table.stack, owner.info.backend_pid)
    owner.close()
    table.admin.close()
    with Database(table.stack, table.name) as after:
        assert settled(after)
        after.sql("ALTER TABLE t ADD x int")


def test_administration_waits_for_the_end(table: Database) -> None:
    with table.admin.transaction(force_rollback=True):
        table.sql("SELECT envelope.begin_ddl('t')")
        for call in ("CALL envelope.refresh('t')", "CALL envelope.unprotect('t')"):
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState), table.admin.transaction():
                table.sql(call)
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState), table.admin.transaction():
            table.sql("SELECT envelope.begin_ddl('t')")
        with pytest.raises(psycopg.Error), table.admin.transaction():
            table.sql("DROP EXTENSION pg_envelope CASCADE")
        table.sql("SELECT envelope.end_ddl()")
        assert settled(table)


def test_no_session_reads_envelopes_under_the_name(table: Database, owner: Connection, bob: Connection) -> None:
    with owner.transaction():
        owner.execute("ALTER TABLE t ADD x int")
        bob.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            bob.execute("SELECT v FROM t")
    assert bob.execute("SELECT v FROM t").fetchall() == [("a",)]


def refusing(statement: str) -> Callable[[Connection], psycopg.Error]:
    def refused(connection: Connection) -> psycopg.Error:
        with pytest.raises(psycopg.Error) as raised:
            connection.execute(statement)  # type: ignore[arg-type]
        return raised.value

    return refused


REFUSED = {
    "ALTER TABLE t ALTER v TYPE varchar(9)": "0A000",
    "ALTER TABLE t ALTER n TYPE bigint, ALTER COLUMN v SET DATA TYPE int USING 1": "0A000",
    "ALTER TABLE t ADD CHECK (v <> 'x')": "0A000",
    "ALTER TABLE t ADD x int CHECK (v IS NOT NULL OR x > 1)": "0A000",
    "ALTER TABLE t ADD UNIQUE (v)": "0A000",
    "ALTER TABLE t ADD x text GENERATED ALWAYS AS (v::text) STORED": "0A000",
    "ALTER TABLE t ALTER v SET DEFAULT 'x', ADD x int": "0A000",
    "CREATE INDEX ON t (v)": "0A000",
    "CREATE INDEX ON t (n) WHERE v IS NULL": "0A000",
    "CREATE INDEX CONCURRENTLY ON t (n)": "0A000",
    "CREATE STATISTICS s ON n, v FROM t": "0A000",
    "CREATE POLICY p ON t USING (v IS NULL)": "0A000",
    "ALTER TABLE t DROP CONSTRAINT t_pkey": "0A000",
    "ALTER TABLE t ALTER id TYPE int USING id + 1": "0A000",
    "ALTER TABLE t ALTER id TYPE text USING 'k' || id": "0A000",
}


@pytest.mark.parametrize("statement", REFUSED)
def test_what_would_see_an_envelope_is_refused(table: Database, owner: Connection, statement: str) -> None:
    error = refusing(statement)(owner)
    assert error.sqlstate == REFUSED[statement], error
    assert error.diag.message_hint
    assert settled(table)
