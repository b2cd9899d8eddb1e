"""A limit of reads holds over all sessions of a user, however the user reads."""

from __future__ import annotations

import base64
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


def test_protect_sets_a_limit(db: Database, stack: Stack) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text, phone text)")
    db.sql("INSERT INTO person VALUES (1, 'x', '1')")
    limits = """{"email": {"audit": "statement", "limit": {"rows": 3, "per": "hour", "then": "refuse"}},
        "phone": {"audit": "row", "limit": {"rows": 2, "then": "alarm"}}}"""
    db.sql("CALL envelope.protect('person', %s)", limits)
    db.sql("GRANT SELECT ON person TO alice")
    assert db.sql(STORED) == [("email", "statement", 3, 3600, "refuse"), ("phone", "row", 2, 60, "alarm")]
    session = db.connect("alice")
    assert taken(session, 9) == 3
    for _ in range(4):
        assert session.execute("SELECT phone FROM person").fetchall() == [("1",)]
    assert sorted(told(stack, db.name)) == [("alice", "alarm"), ("alice", "refuse")]
    db.sql("CALL envelope.set_limit('person', 'email', NULL)")
    assert taken(session, 9) == 9


STORED = """
SELECT attname, audit, limit_rows, limit_seconds, limit_then FROM envelope_private.field
WHERE attname IS NOT NULL ORDER BY attname"""
AUDITED = '"audit": "statement", '


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ('"limit": {"rows": 5}', "a column with a limit must be audited"),
        ('"audit": "none", "limit": {"rows": 5}', "a column with a limit must be audited"),
        *((f'{AUDITED}"limit": {given}', "limit must be an object") for given in ("null", "5", "[]", '"5"', "true")),
        (AUDITED + '"limit": {"rows": 5, "action": "alarm"}', "limit must be an object with rows, per and then"),
        *(
            (f'{AUDITED}"limit": {{"rows": {given}}}', "rows of limit must be a whole number from 1 to 2147483647")
            for given in ("0", "-1", "1.5", "true", '"5"', "null", "2147483648", "1e400", "[5]")
        ),
        (AUDITED + '"limit": {}', "rows of limit must be"),
        *(
            (f'{AUDITED}"limit": {{"rows": 5, "per": {given}}}', "per of limit must be one of second, minute")
            for given in ("null", '"week"', '"1 minute"', "60", "[]", "{}", '"minute; DROP TABLE person"')
        ),
        *(
            (f'{AUDITED}"limit": {{"rows": 5, "then": {given}}}', "then of limit must be one of refuse, alarm")
            for given in ("null", '"shout"', "1", "[]", "{}")
        ),
    ],
)
def test_a_limit_that_protect_refuses(db: Database, options: str, message: str) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=message) as caught:
        db.sql("CALL envelope.protect('person', %s)", f'{{"email": {{{options}}}}}')
    assert caught.value.diag.message_hint
    assert db.one("SELECT relkind FROM pg_class WHERE oid = 'person'::regclass") == "r"


def test_online_and_adoption_take_no_limit(db: Database) -> None:
    """They take no audit, because values in the clear leave no event. A limit without an audit is refused before."""
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    limit = """{"email": {"audit": "row", "limit": {"rows": 5}}}"""
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="protected online"):
        db.sql("CALL envelope.protect('person', %s, online => true)", limit)
    db.sql("SELECT envelope.import_legacy_key('old', 'fernet', %s::bytea)", base64.urlsafe_b64encode(bytes(32)))
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        db.sql("CALL envelope.adopt('person', %s, 'fernet', key => 'old')", limit)


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
