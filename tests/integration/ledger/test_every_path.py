"""Attacks that try to read an audited value without an event. Each is named after what it tries: docs/attacks.md lists
them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fix_stack import Database, Fill

from .fix_reads import ROWS, Recorded, fill

LOOP = """
DO $$ DECLARE v text; BEGIN
    FOR i IN 1..3 LOOP SELECT email INTO v FROM person WHERE id = i; END LOOP;
END $$"""
PEEK = """
CREATE FUNCTION peek(one int) RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT email FROM person WHERE id = one'"""
TRIGGER = """
CREATE TABLE visit (id int, email text);
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN NEW.email := (SELECT email FROM person WHERE id = NEW.id); RETURN NEW; END $$;
CREATE TRIGGER look BEFORE INSERT ON visit FOR EACH ROW EXECUTE FUNCTION look()"""
# The attack, its statements, and what each event must have counted.
PATHS: list[tuple[str, str, list[int]]] = [
    ("select", "SELECT email FROM person LIMIT 10", [10]),
    ("bytea", "SELECT photo FROM person LIMIT 3", [3]),
    ("two_columns", "SELECT email, photo FROM person WHERE id = 1", [1, 1]),
    ("column_without_audit", "SELECT phone FROM person", []),
    ("nothing_decrypted", "SELECT count(*) FROM person", []),
    ("no_row", "SELECT email FROM person WHERE id = -1", []),
    ("condition_only", "SELECT 1 FROM person WHERE email LIKE 'user1@%'", [ROWS]),
    ("whole_row_as_json", "SELECT to_jsonb(p) - 'photo' FROM person p WHERE id = 3", [1, 1]),
    ("rollback", "BEGIN; SELECT email FROM person LIMIT 4; ROLLBACK", [4]),
    ("savepoint", "BEGIN; SAVEPOINT s; SELECT email FROM person LIMIT 4; ROLLBACK TO s; ROLLBACK", [4]),
    ("failing_statement", "SELECT email, 1 / (id - 5) FROM person WHERE id = 5", [1]),
    (
        "two_cursors_in_turn",
        "BEGIN; DECLARE a CURSOR FOR SELECT email FROM person; DECLARE b CURSOR FOR SELECT email FROM person;"
        " FETCH 3 FROM a; FETCH 5 FROM b; FETCH 4 FROM a; FETCH 1 FROM b; COMMIT",
        [7, 6],
    ),
    (
        "cursor_with_hold",
        "BEGIN; DECLARE a CURSOR WITH HOLD FOR SELECT email FROM person LIMIT 15; FETCH 3 FROM a; COMMIT;"
        " FETCH 2 FROM a",
        # At COMMIT PostgreSQL runs the query again from its beginning, to keep the result.
        [18],
    ),
    ("three_statements_in_one_message", "SELECT email FROM person WHERE id = 1; " * 3, [1, 1, 1]),
    ("loop_in_a_function", LOOP, [1, 1, 1]),
    (
        "prepared_with_a_generic_plan",
        "SET plan_cache_mode = force_generic_plan; PREPARE p(int) AS SELECT email FROM person WHERE id = $1;"
        " EXECUTE p(1); EXECUTE p(2); EXECUTE p(1)",
        [1, 1, 1],
    ),
    ("create_table_as", "CREATE TEMP TABLE x AS SELECT email FROM person LIMIT 11", [11]),
    ("insert_select", "CREATE TEMP TABLE x (v text); INSERT INTO x SELECT email FROM person LIMIT 2", [2]),
    ("materialized_view", "CREATE MATERIALIZED VIEW m AS SELECT email FROM person", [ROWS]),
    ("explain", "EXPLAIN VERBOSE SELECT email FROM person", []),
    ("explain_analyze", "EXPLAIN ANALYZE SELECT email FROM person LIMIT 9", [9]),
    ("correlated", "SELECT (SELECT p.email FROM person p WHERE p.id = g) FROM generate_series(1, 5) g", [5]),
    (
        "lateral",
        "SELECT x.email FROM generate_series(1, 5) g, LATERAL (SELECT email FROM person p WHERE p.id = g OFFSET 0) x",
        [5],
    ),
    ("order_by_with_limit", "SELECT id FROM person ORDER BY email LIMIT 1", [ROWS]),
    ("view_over_the_view", "CREATE VIEW v AS SELECT * FROM person; SELECT email FROM v WHERE id = 2", [1]),
    # The trigger gets the whole old row, so the photo is read, too.
    ("update_returning", "UPDATE person SET phone = 'x' WHERE id = 1 RETURNING email", [1, 1]),
    ("delete_returning", "DELETE FROM person WHERE id = 1 RETURNING email", [1]),
    ("parallel_plan", "SET {parallel} = on; SELECT count(*) FROM person WHERE email LIKE '%'", [ROWS]),
    ("copy_to_stdout", "COPY (SELECT email FROM person LIMIT 6) TO STDOUT", [6]),
    # The view is there twice, so each side has an event and decrypts its own values.
    ("self_join", "SELECT a.email, b.email FROM person a JOIN person b ON b.id = a.id + 1 WHERE a.id < 4", [3, 3]),
    ("security_definer_twice", PEEK + "; SELECT peek(1), peek(2)", [1, 1]),
    ("trigger_of_another_table", TRIGGER + "; INSERT INTO visit VALUES (4), (5)", [1, 1]),
    ("statement_that_begins_strangely", "/* SELECT */ -- x\n(SELECT email FROM person LIMIT 1)", [1]),
]


@pytest.fixture
def audited(filled: Callable[[Fill], Database]) -> Database:
    """These tests destroy no key, so a copy will do."""
    return filled(fill)


def run(session: psycopg.Connection[Any], statements: str) -> None:
    """Runs them as one message, as psql -c does; a statement that fails has read before it failed."""
    try:
        if statements.startswith("COPY"):
            with session.cursor().copy(statements) as copied:
                assert len(list(copied.rows())) == 6
        else:
            session.execute(statements)
    except psycopg.errors.DivisionByZero:
        session.rollback()


@pytest.mark.parametrize(("statements", "counts"), [case[1:] for case in PATHS], ids=[case[0] for case in PATHS])
def test_a_read_leaves_its_event(audited: Database, recorded: Recorded, statements: str, counts: list[int]) -> None:
    session = audited.connect("alice")
    parallel = "debug_parallel_query" if session.info.server_version >= 160000 else "force_parallel_mode"
    run(session, statements.replace("{parallel}", parallel))
    events = recorded(session)
    assert sum(event["count"] for event in events) == sum(counts), events
    assert len(events) >= len(counts)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert all(event["user"] == "alice" for event in events)


def test_what_an_event_says(audited: Database, recorded: Recorded) -> None:
    session = audited.connect("alice", application_name="till 4")
    pid = session.info.backend_pid
    session.execute("SELECT email FROM person WHERE id = 1")
    (event,) = recorded(session)
    wanted = {"event": "read", "user": "alice", "role": "alice", "outer": "alice", "application": "till 4"}
    wanted |= {"operation": "SELECT", "table": "public.person", "column": "email", "level": "statement", "pid": pid}
    wanted |= {"database": audited.name, "ip": None, "count": 1, "seq": 1}
    assert {name: event.get(name) for name in wanted} == wanted
    assert len(event["statement"]) == 64
    assert "user1@b.c" not in str(event)


def test_an_event_over_tcp_has_the_client_s_address(audited: Database, recorded: Recorded) -> None:
    password = secrets.token_hex(16)
    audited.sql(f"CREATE ROLE remote LOGIN PASSWORD '{password}'")
    audited.sql("GRANT SELECT ON person TO remote")
    try:
        session = audited.connect("remote", host="127.0.0.1", password=password)
        session.execute("SELECT email FROM person WHERE id = 1")
        (event,) = recorded(session)
        assert (event["ip"], event["user"]) == ("127.0.0.1", "remote")
    finally:
        audited.sql("DROP OWNED BY remote; DROP ROLE remote")


def test_an_event_has_the_query_id_that_the_server_shows(audited: Database, recorded: Recorded) -> None:
    """Half of all ids are negative. The number is the same for statements that differ in constants only."""
    audited.sql("GRANT SET ON PARAMETER compute_query_id TO alice")
    try:
        session = audited.connect("alice")
        session.execute("SET compute_query_id = on")
        shown = []
        for columns in range(12):
            statement = f"SELECT email{', id' * columns} FROM person WHERE id = "
            shown += [session.execute("EXPLAIN (VERBOSE) " + statement + "3").fetchall()[-1][0]] * 2
            session.execute(statement + "1")
            session.execute(statement + "2")
        session.execute("SET compute_query_id = off")
        session.execute("SELECT email FROM person WHERE id = 1")
        *told, last = (event["query_id"] for event in recorded(session))
        assert [f"Query Identifier: {query_id}" for query_id in told] == shown
        assert (len(set(told)), last) == (12, "0")
    finally:
        audited.sql("REVOKE SET ON PARAMETER compute_query_id FROM alice")


def test_equal_statements_have_equal_hashes(audited: Database, recorded: Recorded) -> None:
    session = audited.connect("alice")
    for statement in ("SELECT email FROM person WHERE id = 1", "SELECT email FROM person WHERE id = 2"):
        session.execute(statement)
        session.execute(statement)
    one, same, other, _ = recorded(session)
    assert one["statement"] == same["statement"] != other["statement"]


def test_set_role_and_security_definer_are_told_apart(audited: Database, recorded: Recorded) -> None:
    audited.sql(
        "CREATE FUNCTION peek() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT email FROM person WHERE id = 1'"
    )
    audited.sql("ALTER FUNCTION peek OWNER TO owner")
    audited.sql("GRANT alice TO bob")
    session = audited.connect("bob")
    session.execute("SET ROLE alice")
    session.execute("SELECT email FROM person WHERE id = 1")
    session.execute("RESET ROLE")
    audited.sql("REVOKE alice FROM bob")
    session.execute("SELECT peek()")
    roles = [(event["user"], event["outer"], event["role"]) for event in recorded(session)]
    assert roles == [("bob", "alice", "alice"), ("bob", "bob", "owner")]


def test_a_cancelled_statement_has_counted(audited: Database, recorded: Recorded) -> None:
    session = audited.connect("alice")
    with pytest.raises(psycopg.errors.QueryCanceled):
        session.execute(
            "SET statement_timeout = '1s'; SELECT email, CASE WHEN id > 3 THEN pg_sleep(60) END FROM person ORDER BY id"
        )
    (event,) = recorded(session)
    assert event["count"] >= 4


def test_a_cursor_goes_on_when_its_slot_was_taken(audited: Database, recorded: Recorded) -> None:
    session = audited.connect("alice")
    session.execute("BEGIN")
    session.execute("DECLARE a CURSOR FOR SELECT email FROM person")
    session.execute("FETCH 2 FROM a")
    session.execute(LOOP.replace("1..3", "1..600").replace("id = i", "id = 1"))
    assert len(session.execute("FETCH 3 FROM a").fetchall()) == 3
    assert len(session.execute("FETCH 1 FROM a").fetchall()) == 1
    events = recorded(session)
    assert sum(event["count"] for event in events) == 606
    assert [(event["count"], event["continues"]) for event in events if "continues" in event] == [(4, 1)]
    assert events[0]["count"] == 2


def test_row_level_security_counts_by_statement(audited: Database, recorded: Recorded) -> None:
    audited.sql("CREATE TABLE note (id int PRIMARY KEY, body text)")
    audited.sql("INSERT INTO note SELECT g, 'b' || g FROM generate_series(1, 5) g")
    audited.sql("ALTER TABLE note ENABLE ROW LEVEL SECURITY")
    audited.sql("CREATE POLICY low ON note USING (id < 4)")
    audited.sql("""CALL envelope.protect('note', '{"body": {"audit": "statement"}}')""")
    audited.sql("GRANT SELECT ON note TO alice")
    session = audited.connect("alice")
    assert len(session.execute("SELECT body FROM note").fetchall()) == 3
    assert len(session.execute("SELECT body FROM note WHERE id = 1").fetchall()) == 1
    assert [event["count"] for event in recorded(session)] == [3, 1]


def test_a_search_that_shows_the_column(audited: Database, recorded: Recorded) -> None:
    audited.sql("CREATE TABLE member (id int PRIMARY KEY, email text)")
    audited.sql("INSERT INTO member VALUES (1, 'a@b.c'), (2, 'd@e.f')")
    audited.sql("""CALL envelope.protect('member', '{"email": {"audit": "statement", "search": "exact"}}')""")
    audited.sql("GRANT SELECT ON member TO alice")
    audited.sql("SELECT envelope.grant_search('member', 'email', 'alice')")
    session = audited.connect("alice")
    assert session.execute("SELECT email FROM member WHERE email_search = 'd@e.f'").fetchall() == [("d@e.f",)]
    assert [event["count"] for event in recorded(session)] == [1]


def test_level_row_keeps_row_keys(audited: Database, recorded: Recorded) -> None:
    audited.sql("CALL envelope.set_audit('person', 'email', 'row')")
    session = audited.connect("alice")
    session.execute("SELECT email FROM person WHERE id IN (3, 5, 8)")
    (event,) = recorded(session)
    assert (event["level"], event["count"], sorted(event["rows"])) == ("row", 3, ["3", "5", "8"])


def test_row_keys_are_bounded_and_values_are_counted(audited: Database, recorded: Recorded) -> None:
    audited.sql("INSERT INTO person (id, email) SELECT g, 'x' FROM generate_series(1000, 3000) g")
    audited.sql("CALL envelope.set_audit('person', 'email', 'row')")
    session = audited.connect("alice")
    session.execute("SELECT email FROM person")
    (event,) = recorded(session)
    assert event["count"] == ROWS + 2001
    assert 20 < len(event["rows"]) < 600


ACTS = {
    "SELECT email FROM person WHERE id = 2": 1,
    "SELECT email FROM person WHERE id <= 3": 3,
    "FETCH 2 FROM a": 2,
    "FETCH 1 FROM b": 1,
    "SELECT phone FROM person": 0,
    "SAVEPOINT s": 0,
    "ROLLBACK TO s": 0,
    "SELECT id FROM person WHERE email = 'user1@b.c' AND id = 1": 1,
}


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=st.lists(st.sampled_from(sorted(ACTS)), max_size=12))
def test_any_order_of_reads_counts_what_was_read(audited: Database, recorded: Recorded, acts: list[str]) -> None:
    session = audited.connect("alice")
    session.execute("BEGIN; SAVEPOINT s")
    for name in "ab":
        session.execute(f"DECLARE {name} CURSOR FOR SELECT email FROM person")
    session.execute("SAVEPOINT s")
    given = 0
    for act in acts:
        cursor = session.execute(act)
        rows = len(cursor.fetchall()) if cursor.description else 0
        given += min(rows, ACTS[act])
    events = recorded(session)
    assert sum(event["count"] for event in events) == given
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


@pytest.mark.parametrize("level", ["row", "sync"])
def test_each_of_many_reads_keeps_its_row_key(audited: Database, recorded: Recorded, level: str) -> None:
    """More reads than the ring has slots, in less time than passes between two looks at all counts."""
    audited.sql(f"CALL envelope.set_audit('person', 'email', '{level}')")
    session = audited.connect("alice")
    session.execute(f"""
        DO $$ DECLARE v text; BEGIN
            FOR i IN 0..599 LOOP SELECT email INTO v FROM person WHERE id = 1 + i % {ROWS}; END LOOP;
        END $$""")
    events = recorded(session)
    assert [event.get("rows") for event in events] == [[str(1 + number % ROWS)] for number in range(600)]
    assert {event["count"] for event in events} == {1}
