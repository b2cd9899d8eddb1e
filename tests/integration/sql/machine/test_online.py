"""A table between plain and protected behaves as its plain twin, too, whatever rows a roll-out has not reached."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.fix_stack import Database
from tests.integration.sql.machine.differences import allowed
from tests.integration.sql.machine.statements import STATEMENTS
from tests.integration.sql.machine.tables import Shape, shapes
from tests.integration.sql.machine.test_machine import EXAMPLES, PHASES, SCHEMAS, Connection, outcome, stored

CALLS = {
    "protect": "CALL envelope.protect('sealed.t', '[\"s\", \"m\"]', online => true)",
    "unprotect": "CALL envelope.unprotect('sealed.t', online => true)",
}
STOP = """
CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'stopped by the test'; END $$;
CREATE TRIGGER online BEFORE INSERT ON envelope_private.job FOR EACH ROW WHEN (NEW.what = 'online')
    EXECUTE FUNCTION stop();
CREATE TRIGGER search BEFORE INSERT ON envelope_private.job FOR EACH ROW WHEN (NEW.what = 'search')
    EXECUTE FUNCTION stop();
CREATE TRIGGER batch BEFORE UPDATE ON envelope_private.job FOR EACH ROW
    WHEN (NEW.what = 'online' AND NEW.blocks_done > 0 AND NEW.state = 'running') EXECUTE FUNCTION stop();
ALTER TABLE envelope_private.job DISABLE TRIGGER USER"""
# A row's subject is one of the columns that the statements change most.
SUBJECTS = CALLS["protect"].replace("online", "scope => 'subject', scope_column => 'n', online")
IS_GIVEN = "ALTER TABLE t ALTER n SET NOT NULL"
INDEXES = ("CREATE INDEX by_s ON t (s)", "CREATE UNIQUE INDEX by_s ON t (s, n)")
REFUSED = "0A000"


@pytest.fixture(scope="module")
def stopping_db(shared_db: Database) -> Database:
    """A database in which a roll-out can be stopped right after its first transaction, or with its first batch."""
    shared_db.sql(STOP)
    return shared_db


def make(connection: Connection, shape: Shape, *further: str) -> None:
    for schema in SCHEMAS:
        connection.execute("RESET ROLE; RESET ALL; SET client_min_messages = error")
        connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}")
        connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO alice; SET search_path = {schema}, public")
        for statement in shape.ddl():
            connection.execute(statement.replace("{schema}", schema))
        for statement in further:
            connection.execute(statement)


def call(connection: Connection, statement: str, stopped_at: str | None = None) -> str | None:
    """Returns the SQLSTATE with which the call ended."""
    connection.execute("ALTER TABLE envelope_private.job DISABLE TRIGGER USER")
    if stopped_at:
        connection.execute(f"ALTER TABLE envelope_private.job ENABLE TRIGGER {stopped_at}")
    try:
        connection.execute(statement)
    except psycopg.Error as error:
        return error.sqlstate
    return None


def alike(connection: Connection, shape: Shape, statements: list[str], *, sealed: bool) -> bool:
    """Runs the statements on both tables. Returns False after a difference that the docs tell of."""
    for statement in statements:
        seen = {}
        for schema in SCHEMAS:
            connection.execute(f"RESET ROLE; RESET ALL; SET search_path = {schema}, public; SET ROLE alice")
            seen[schema] = outcome(connection, schema, statement)
        connection.execute("RESET ROLE; RESET ALL; SET client_min_messages = error")
        left, right = (stored(connection, schema, shape) for schema in SCHEMAS)
        if seen["plain"] != seen["sealed"] or left != right:
            told = sealed and allowed(shape, statement, seen["plain"], seen["sealed"])
            assert told, (shape, statement, seen, left, right)
            event(f"differs: {statement[:20]}")
            return False
    return True


SOME = st.lists(STATEMENTS, min_size=1, max_size=4)


@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(shapes(), st.booleans(), SOME, SOME, SOME, st.booleans(), st.booleans())
def test_a_table_in_a_roll_out_behaves_as_the_plain_one(
    stopping_db: Database,
    shape: Shape,
    has_subjects: bool,
    before: list[str],
    during: list[str],
    after: list[str],
    turns_back: bool,
    goes_back: bool,
) -> None:
    connection = stopping_db.admin
    calls = {**CALLS, "protect": SUBJECTS} if has_subjects else CALLS
    make(connection, shape, *([IS_GIVEN] if has_subjects else []))
    assert alike(connection, shape, before, sealed=False)
    began = call(connection, calls["protect"], "online")
    if began == REFUSED:
        event("refused online")
        return
    assert began == "P0001"
    if not alike(connection, shape, during, sealed=True):
        return
    acts = ["unprotect"] if turns_back else ["protect", "unprotect"] if goes_back else ["protect"]
    for act in acts:
        assert call(connection, calls[act]) is None
        assert stored(connection, "plain", shape) == stored(connection, "sealed", shape)
    if alike(connection, shape, after, sealed=acts[-1] == "protect"):
        event(f"{', '.join(acts)}: alike to the end")


@settings(max_examples=EXAMPLES // 2, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(shapes(), st.sampled_from(INDEXES), SOME, SOME, SOME, SOME, st.booleans(), st.booleans())
def test_so_does_one_whose_indexes_become_indexes_of_tokens(
    stopping_db: Database,
    shape: Shape,
    index: str,
    before: list[str],
    in_the_clear: list[str],
    during: list[str],
    back: list[str],
    turns_back: bool,
    comes_back: bool,
) -> None:
    connection = stopping_db.admin
    make(connection, shape, index)
    assert alike(connection, shape, before, sealed=False)
    began = call(connection, CALLS["protect"], "search")
    if began == REFUSED:
        event("refused online")
        return
    assert began == "P0001"
    if not alike(connection, shape, in_the_clear, sealed=True):
        return
    assert call(connection, CALLS["protect"], "online") == "P0001"
    if not alike(connection, shape, during, sealed=True):
        return
    assert call(connection, CALLS["unprotect" if turns_back else "protect"]) is None
    assert stored(connection, "plain", shape) == stored(connection, "sealed", shape)
    if not turns_back:
        assert connection.execute(
            "SELECT count(*) FROM sealed.t WHERE (s IS NULL) <> (s_search IS NULL)"
        ).fetchone() == (0,)
        if call(connection, CALLS["unprotect"], "batch") == "P0001":
            if not alike(connection, shape, back, sealed=True):
                return
            assert call(connection, CALLS["unprotect" if comes_back else "protect"]) is None
            event(f"alike on the way back, {'to its end' if comes_back else 'and to the other end again'}")
        assert stored(connection, "plain", shape) == stored(connection, "sealed", shape)
    event("alike to the end")


ONE = CALLS["protect"].replace('["s", "m"]', '["s"]')
JOIN = CALLS["protect"].replace('["s", "m"]', '["m"]')
LEAVE = CALLS["unprotect"].replace("online", "columns => '[\"m\"]', online")


@settings(max_examples=EXAMPLES // 2, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(shapes(), st.booleans(), SOME, SOME, SOME, st.booleans(), st.booleans())
def test_so_does_one_that_gains_and_loses_a_protected_column(
    stopping_db: Database,
    shape: Shape,
    has_subjects: bool,
    before: list[str],
    joining: list[str],
    leaving: list[str],
    turns_back: bool,
    comes_back: bool,
) -> None:
    connection = stopping_db.admin
    make(connection, shape, *([IS_GIVEN] if has_subjects else []))
    first = ONE.replace("online", "scope => 'subject', scope_column => 'n', online") if has_subjects else ONE
    if call(connection, first) == REFUSED:
        event("refused online")
        return
    if not alike(connection, shape, before, sealed=True):
        return
    if call(connection, JOIN, "online") == REFUSED:
        event("a further column is refused online")
        return
    if not alike(connection, shape, joining, sealed=True):
        return
    assert call(connection, LEAVE if turns_back else JOIN) is None
    assert stored(connection, "plain", shape) == stored(connection, "sealed", shape)
    if not turns_back:
        if call(connection, LEAVE, "batch") == "P0001":
            if not alike(connection, shape, leaving, sealed=True):
                return
            assert call(connection, JOIN if comes_back else LEAVE) is None
        assert stored(connection, "plain", shape) == stored(connection, "sealed", shape)
    assert call(connection, CALLS["unprotect"]) is None
    assert stored(connection, "plain", shape) == stored(connection, "sealed", shape)
    event("alike to the end")
