"""ON CONFLICT DO NOTHING through the view: the plain table decides what it does."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import psycopg
import pytest

from tests.fix_stack import Database, Fill

MADE = "CREATE TABLE t (id int PRIMARY KEY, login text UNIQUE, s text UNIQUE, n int DEFAULT 7)"
FILLED = "INSERT INTO t VALUES (1, 'a', 's1'), (2, 'b', 's2')"
KINDS = {
    "bare": "",
    "trigger": """
        CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN NEW.login := lower(NEW.login); RETURN NEW; END';
        CREATE TRIGGER shout BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION shout()""",
    "policy": "ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (true)",
}
SAID = [
    "INSERT INTO t VALUES (1, 'x', 'x') ON CONFLICT DO NOTHING",
    "INSERT INTO t VALUES (3, 'a', 'x') ON CONFLICT DO NOTHING RETURNING id, login, s, n",
    "INSERT INTO t VALUES (3, 'c', 's1'), (4, 'd', 's4'), (5, 'd', 's5'), (6, 'f', 's4'), (1, 'g', 'g')"
    " ON CONFLICT DO NOTHING RETURNING id, s",
    "WITH x AS (INSERT INTO t VALUES (2, 'x', 'x'), (9, 'i', 'i') ON CONFLICT DO NOTHING RETURNING id)"
    " SELECT count(*) FROM x",
    "INSERT INTO t SELECT i, 'l' || i, 's' || i FROM generate_series(1, 6) i ON CONFLICT DO NOTHING",
]
NOT_SAID = [
    "INSERT INTO t VALUES (1, 'x', 'on conflict do nothing')",
    "INSERT INTO t VALUES (1, 'x', 'x') /* ON CONFLICT DO NOTHING */",
    "WITH x AS (INSERT INTO t VALUES (8, 'x', 'x') RETURNING id) INSERT INTO t SELECT 1, 'y', 'y' FROM x"
    " ON CONFLICT DO NOTHING",
    "DO 'BEGIN INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING; END'",
    "INSERT INTO t SELECT twice() ON CONFLICT DO NOTHING",
]


@cache
def fill(kind: str) -> Fill:
    """Makes two tables, one of which is protected."""

    def make(db: Database) -> None:
        for schema in ("plain", "sealed"):
            db.sql(f"CREATE SCHEMA {schema}; SET search_path = {schema}; {MADE}; {KINDS[kind]}; {FILLED}")
            db.sql(f"GRANT USAGE ON SCHEMA {schema} TO alice; GRANT SELECT, INSERT ON t TO alice")
        db.sql("CALL envelope.protect('sealed.t', '[\"s\"]')")

    return make


@pytest.fixture(params=KINDS)
def twins(request: pytest.FixtureRequest, filled: Callable[[Fill], Database]) -> Database:
    """These tests destroy no key, so a copy will do."""
    made = filled(fill(request.param))
    made.sql("SET search_path = sealed")
    return made


def outcome(db: Database, schema: str, statement: str) -> tuple[object, object, object]:
    alice = db.connect("alice")
    alice.execute(f"SET search_path = {schema}")
    done = alice.execute(statement)
    returned = done.fetchall() if done.description else None
    return returned, done.rowcount, db.sql(f"SELECT id, login, s, n FROM {schema}.t ORDER BY id")


@pytest.mark.parametrize("statement", SAID)
def test_rows_in_conflict_are_left_out(twins: Database, statement: str) -> None:
    assert outcome(twins, "sealed", statement) == outcome(twins, "plain", statement)


@pytest.mark.parametrize("statement", NOT_SAID)
def test_where_it_is_not_known_the_conflict_is_an_error(twins: Database, statement: str) -> None:
    twins.sql("SET search_path = sealed")
    twins.sql(
        "CREATE FUNCTION twice() RETURNS int LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO t VALUES (1, ''z'', ''z''); RETURN 9; END'"
    )
    before = twins.sql("SELECT * FROM t ORDER BY id")
    with pytest.raises(psycopg.errors.UniqueViolation):
        twins.sql(statement)
    assert twins.sql("SELECT * FROM t ORDER BY id") == before


def test_parameters_and_prepared_statements(twins: Database) -> None:
    connection = twins.connect()
    connection.execute("SET search_path = sealed")
    statement = "INSERT INTO t VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
    for attempt in range(3):
        done = connection.execute(statement, (20, "t", "t"), prepare=True)
        assert done.rowcount == (0 if attempt else 1)


def test_the_next_statement_is_not_soft(twins: Database) -> None:
    twins.sql("SET search_path = sealed")
    twins.sql("BEGIN")
    twins.sql("INSERT INTO t VALUES (1, 'x', 'x') ON CONFLICT DO NOTHING")
    with pytest.raises(psycopg.errors.UniqueViolation):
        twins.sql("INSERT INTO t VALUES (1, 'x', 'x')")
    twins.sql("ROLLBACK")


def test_nobody_makes_the_insert_of_another_role_soft(db: Database) -> None:
    """A function with its owner's rights inserts as ever, whatever the statement says that calls it."""
    db.sql("CREATE TABLE t (id int PRIMARY KEY, s text); INSERT INTO t VALUES (1, 'a')")
    db.sql("CALL envelope.protect('t', '[\"s\"]')")
    db.sql(
        "CREATE FUNCTION put() RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS"
        " 'BEGIN INSERT INTO public.t VALUES (1, ''b''); RETURN 1; END'"
    )
    db.sql("CREATE SCHEMA hers AUTHORIZATION alice; GRANT INSERT ON t TO alice")
    alice = db.connect("alice")
    alice.execute("CREATE TABLE hers.t (id int)")
    alice.execute(
        "CREATE TRIGGER soft BEFORE INSERT ON hers.t FOR EACH STATEMENT"
        " EXECUTE FUNCTION envelope_internal.insert_begins()"
    )
    for statement in (
        "INSERT INTO hers.t SELECT public.put() ON CONFLICT DO NOTHING",
        "INSERT INTO public.t SELECT public.put() ON CONFLICT DO NOTHING",
    ):
        with pytest.raises(psycopg.errors.UniqueViolation):
            alice.execute(statement)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        alice.execute("SELECT envelope_private.note_insert(0, 't', '', 'insert into t on conflict do nothing')")


def test_a_deferrable_constraint_is_refused_as_on_the_plain_table(db: Database) -> None:
    for name in ("plain", "sealed"):
        db.sql(f"CREATE TABLE {name} (id int PRIMARY KEY DEFERRABLE, s text); INSERT INTO {name} VALUES (1, 'a')")
    db.sql("CALL envelope.protect('sealed', '[\"s\"]')")
    for name in ("plain", "sealed"):
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            db.sql(f"INSERT INTO {name} VALUES (1, 'b') ON CONFLICT DO NOTHING")
