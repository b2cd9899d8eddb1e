"""A limit of reads holds over all sessions of a user, however the user reads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from stack.stack import Stack
from tests.fix_stack import Database

from .fix_reads import entries

LIMIT = "CALL envelope.set_limit('person', 'email', {}, '1 hour', '{}')"


def taken(session: psycopg.Connection[Any], most: int) -> int:
    """How many values a session gets, one by one, until it is refused."""
    for count in range(most):
        try:
            session.execute("SELECT email FROM person WHERE id = 1")
        except psycopg.Error as error:
            assert error.sqlstate == "53400"  # noqa: PT017 -- the count matters, too
            return count
    return most


def told(stack: Stack, database: str) -> list[tuple[str, str]]:
    own = [entry for entry in entries(stack) if entry["event"] == "limit" and entry["database"] == database]
    return [(entry["user"], entry["then"]) for entry in own]


def test_one_value_more_is_refused(audited: Database, stack: Stack) -> None:
    audited.sql(LIMIT.format(7, "refuse"))
    session = audited.connect("alice")
    assert taken(session, 20) == 7
    assert taken(audited.connect("alice"), 5) == 0
    assert session.execute("SELECT phone FROM person WHERE id = 1").fetchall() == [("1",)]
    assert taken(audited.connect("owner"), 5) == 5, "another user"
    assert told(stack, audited.name) == [("alice", "refuse")]
    audited.sql("CALL envelope.set_limit('person', 'email', NULL)")
    assert taken(session, 9) == 9


def test_a_scan_is_cut_off(audited: Database) -> None:
    audited.sql(LIMIT.format(7, "refuse"))
    with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="the limit of reads is reached"):
        audited.connect("alice").execute("SELECT email FROM person")


def test_sessions_together_get_no_more(audited: Database) -> None:
    audited.sql(LIMIT.format(50, "refuse"))
    sessions = [audited.connect("alice") for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(lambda session: taken(session, 30), sessions))
    assert 20 <= sum(got) <= 50


def test_set_role_evades_nothing(audited: Database) -> None:
    audited.sql("GRANT owner TO alice")
    try:
        audited.sql(LIMIT.format(5, "refuse"))
        session = audited.connect("alice")
        assert taken(session, 9) == 5
        session.execute("SET ROLE owner")
        assert taken(session, 9) == 0
    finally:
        audited.sql("REVOKE owner FROM alice")


def test_an_alarm_lets_pass_and_tells(audited: Database, stack: Stack) -> None:
    audited.sql(LIMIT.format(5, "alarm"))
    assert taken(audited.connect("alice"), 20) == 20
    assert told(stack, audited.name) == [("alice", "alarm")]


def test_row_level_security_is_limited_too(db: Database) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text); INSERT INTO person VALUES (1, 'x')")
    db.sql("ALTER TABLE person ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON person USING (true)")
    db.sql("""CALL envelope.protect('person', '{"email": {"audit": "row"}}')""")
    db.sql("GRANT SELECT ON person TO alice")
    db.sql(LIMIT.format(3, "refuse"))
    assert taken(db.connect("alice"), 9) == 3


@pytest.mark.parametrize(
    ("call", "sqlstate"),
    [
        ("CALL envelope.set_limit('person', 'email', 0)", "22023"),
        ("CALL envelope.set_limit('person', 'email', 5, '1 hour', 'shout')", "22023"),
        ("CALL envelope.set_limit('person', 'email', 5, NULL)", "22023"),
        ("CALL envelope.set_limit('person', 'phone', 5)", "42704"),
        ("CALL envelope.set_limit('person', 'id', 5)", "42704"),
    ],
)
def test_bad_input(audited: Database, call: str, sqlstate: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        audited.sql(call)
    assert caught.value.sqlstate == sqlstate


def test_a_limited_column_stays_audited(audited: Database) -> None:
    audited.sql(LIMIT.format(5, "refuse"))
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="must be audited"):
        audited.sql("CALL envelope.set_audit('person', 'email', 'none')")
    audited.sql("CALL envelope.set_audit('person', 'email', 'row')")
    assert taken(audited.connect("alice"), 9) == 5
