"""Named keys: who may use one, and what an envelope under one is bound to."""

from __future__ import annotations

import os
from typing import Any

import psycopg
import pytest
from psycopg.pq import DiagnosticField

from tests.fix_stack import Database
from tests.security.fix_people import BAD_ENVELOPE, DENIED, failure, value

Connection = psycopg.Connection[Any]
ROUND_TRIP = "SELECT envelope.decrypt(envelope.encrypt(%s, 'k', 'c'), 'c')"


@pytest.fixture
def keys(db: Database) -> Database:
    """Keys k, granted to alice, and l, granted to nobody."""
    db.sql("SELECT envelope.create_key('k'), envelope.create_key('l'), envelope.grant_key('k', 'alice')")
    return db


def test_who_was_granted_may(keys: Database, alice: Connection, bob: Connection, owner: Connection) -> None:
    assert value(alice, ROUND_TRIP, "x") == "x"
    for other in (bob, owner):
        assert failure(other, ROUND_TRIP, "x").sqlstate == DENIED
    assert failure(alice, "SELECT envelope.encrypt('x', 'l')").sqlstate == DENIED


def test_revoke_counts_from_the_next_statement(keys: Database, alice: Connection) -> None:
    envelope = value(alice, "SELECT envelope.encrypt('x', 'k')")
    keys.sql("SELECT envelope.revoke_key('k', 'alice')")
    assert failure(alice, "SELECT envelope.decrypt(%s)", envelope).sqlstate == DENIED
    keys.sql("SELECT envelope.grant_key('k', 'alice')")
    assert value(alice, "SELECT envelope.decrypt(%s)", envelope) == "x"


def test_revoke_counts_in_an_open_transaction(keys: Database, alice: Connection) -> None:
    """The transaction locks nothing new, so PostgreSQL tells its session of no change."""
    envelope = value(alice, "SELECT envelope.encrypt('x', 'k')")
    with alice.transaction(force_rollback=True):
        assert [value(alice, "SELECT envelope.decrypt(%s)", envelope) for _ in range(3)] == ["x"] * 3
        keys.sql("SELECT envelope.revoke_key('k', 'alice')")
        assert failure(alice, "SELECT envelope.decrypt(%s)", envelope).sqlstate == DENIED


def test_a_session_that_knows_the_key_asks_for_the_grant_all_the_same(keys: Database) -> None:
    session = keys.connect()
    envelope = value(session, "SELECT envelope.encrypt('x', 'k')")
    decrypt = "SELECT envelope.decrypt(%s)"
    for _ in range(2):
        session.execute("SET ROLE alice")
        assert [value(session, decrypt, envelope) for _ in range(2)] == ["x", "x"]
        session.execute("SET ROLE bob")
        assert failure(session, decrypt, envelope).sqlstate == DENIED
    session.execute("SET ROLE alice")
    assert value(session, decrypt, envelope) == "x"
    keys.sql("SELECT envelope.revoke_key('k', 'alice')")
    assert failure(session, decrypt, envelope).sqlstate == DENIED


def test_a_role_sees_its_own_grants_only(keys: Database, alice: Connection, bob: Connection) -> None:
    granted = "SELECT array_agg(name ORDER BY name) FROM envelope_internal.granted_key"
    keys.sql("SELECT envelope.grant_key('l', 'bob')")
    assert [value(session, granted) for session in (alice, bob, keys.admin)] == [["k"], ["l"], ["k", "l"]]
    bob.execute(
        "CREATE FUNCTION pg_temp.tells(name text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS"
        " 'BEGIN RAISE NOTICE ''%'', name; RETURN true; END'"
    )
    heard: list[str] = []
    bob.add_notice_handler(lambda report: heard.append(str(report.message_primary)))
    bob.execute("SELECT FROM envelope_internal.granted_key WHERE pg_temp.tells(name)")
    assert heard == ["l"]


def test_a_rotation_counts_from_the_next_write(keys: Database, alice: Connection) -> None:
    header = "SELECT substr(envelope.encrypt('x', 'k')::bytea, 1, 6)"
    first = [value(alice, header) for _ in range(3)]
    keys.sql("SELECT envelope.rotate_key('k')")
    second = [value(alice, header) for _ in range(3)]
    assert len({*first}) == len({*second}) == 1
    assert first[0] != second[0]


def test_a_name_that_another_key_gets(keys: Database, alice: Connection) -> None:
    assert [value(alice, ROUND_TRIP, "x") for _ in range(2)] == ["x", "x"]
    keys.sql("UPDATE envelope_private.key SET name = CASE name WHEN 'k' THEN 'm' ELSE 'k' END WHERE name IN ('k', 'l')")
    assert failure(alice, "SELECT envelope.encrypt('x', 'k')").sqlstate == DENIED
    assert value(alice, "SELECT envelope.decrypt(envelope.encrypt('x', 'm'))") == "x"


def test_revoke_counts_in_a_statement_that_goes_on(keys: Database, alice: Connection) -> None:
    """A DO block that loops is one statement; it must not keep a right for as long as it likes."""
    alice.execute("SET statement_timeout = '60s'")
    alice.pgconn.send_query(
        b"DO $$ BEGIN LOOP PERFORM envelope.encrypt('x', 'k'), pg_advisory_xact_lock_shared(42); END LOOP; END $$"
    )
    while keys.one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42") == 0:
        pass
    keys.sql("SELECT envelope.revoke_key('k', 'alice')")
    results = []
    while (result := alice.pgconn.get_result()) is not None:
        results.append(result.error_field(DiagnosticField.SQLSTATE))
    assert results == [DENIED.encode()]


def test_members_of_a_granted_role_may(keys: Database, bob: Connection) -> None:
    group = f"group_{os.urandom(4).hex()}"
    keys.sql(f"CREATE ROLE {group}")
    try:
        keys.sql("SELECT envelope.grant_key('k', %s::regrole)", group)
        assert failure(bob, ROUND_TRIP, "x").sqlstate == DENIED
        keys.sql(f"GRANT {group} TO bob")
        assert value(bob, ROUND_TRIP, "x") == "x"
        keys.sql(f"REVOKE {group} FROM bob")
        assert failure(bob, ROUND_TRIP, "x").sqlstate == DENIED
    finally:
        keys.sql("SELECT envelope.revoke_key('k', %s::regrole)", group)
        keys.sql(f"DROP ROLE {group}")


def test_a_warm_session_that_changes_roles(keys: Database) -> None:
    session = keys.connect()
    assert value(session, ROUND_TRIP, "x") == "x"
    session.execute("SET ROLE bob")
    assert failure(session, ROUND_TRIP, "x").sqlstate == DENIED
    session.execute("SET ROLE alice")
    assert value(session, ROUND_TRIP, "x") == "x"


@pytest.mark.parametrize("content", ["", "x", "ünï\ncode 🐘", "a" * 100_000])
def test_text_and_bytes_come_back(keys: Database, alice: Connection, content: str) -> None:
    assert value(alice, ROUND_TRIP, content) == content
    raw = content.encode() + bytes(range(256))
    assert value(alice, "SELECT envelope.decrypt_bytea(envelope.encrypt(%s::bytea, 'k'))", raw) == raw


def test_null_stays_null(keys: Database, alice: Connection) -> None:
    assert value(alice, "SELECT envelope.encrypt(NULL::text, 'k')") is None
    assert value(alice, "SELECT envelope.encrypt(NULL::bytea, 'k')") is None
    assert value(alice, "SELECT envelope.decrypt(NULL)") is None


def test_null_context_is_the_empty_one(keys: Database, alice: Connection) -> None:
    assert value(alice, "SELECT envelope.decrypt(envelope.encrypt('x', 'k', NULL), '')") == "x"


def test_bytes_that_are_no_text_are_not_shown(keys: Database, alice: Connection) -> None:
    error = failure(alice, "SELECT envelope.decrypt(envelope.encrypt('\\xff736563726574'::bytea, 'k'))")
    assert error.sqlstate == BAD_ENVELOPE
    assert "secret" not in error.everything


def test_rotation_keeps_old_envelopes_readable(keys: Database, alice: Connection) -> None:
    old = value(alice, "SELECT envelope.encrypt('x', 'k')")
    assert keys.one("SELECT envelope.rotate_key('k')") == 2
    new = value(alice, "SELECT envelope.encrypt('x', 'k')")
    assert old[:6] != new[:6]
    assert [value(alice, "SELECT envelope.decrypt(%s)", envelope) for envelope in (old, new)] == ["x", "x"]
    assert keys.sql("SELECT version, state FROM envelope.keys WHERE name = 'k' ORDER BY 1") == [
        (1, "decrypt-only"),
        (2, "active"),
    ]


def test_names(keys: Database) -> None:
    name = "Zahlungs-\"Schlüssel\" '1' \\ 🐘"
    keys.sql("SELECT envelope.create_key(%s)", name)
    assert keys.one("SELECT envelope.decrypt(envelope.encrypt('x', %s))", name) == "x"


def test_bad_input_has_a_clear_error(keys: Database) -> None:
    states = {
        "SELECT envelope.create_key('k')": "42710",
        "SELECT envelope.create_key('')": "22023",
        "SELECT envelope.create_key(NULL)": "22023",
        "SELECT envelope.create_key('m', 'no such kek')": "42704",
        "SELECT envelope.grant_key('none', 'alice')": "42704",
        "SELECT envelope.revoke_key('none', 'alice')": "42704",
        "SELECT envelope.rotate_key('none')": "42704",
        "SELECT envelope.grant_key('k', 'no such role')": "42602",
    }
    found = {statement: failure(keys.admin, statement).sqlstate for statement in states}
    assert found == states
    assert keys.one("SELECT count(DISTINCT name) FROM envelope.keys") == 2


def test_a_key_taken_away_within_one_message(db: Database) -> None:
    """All statements of a message have one time; the right must not outlive the grant for it."""
    db.sql("SELECT envelope.create_key('k')")
    db.sql("SELECT envelope.grant_key('k', 'alice')")
    db.sql("CREATE TABLE kept AS SELECT envelope.encrypt('secret'::text, 'k') AS value")
    db.sql("GRANT SELECT ON kept TO alice")
    reading = "SET ROLE alice; SELECT envelope.decrypt(value) FROM kept; RESET ROLE;"
    with db.connect() as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute(f"{reading} SELECT envelope.revoke_key('k', 'alice'); {reading}")
    with db.connect() as session:
        session.execute(f"{reading} SELECT envelope.revoke_key('k', 'bob'); {reading}")


def test_a_secret_taken_away_within_one_message(db: Database) -> None:
    db.sql("SELECT envelope.import_secret('s', 'hunter2'::text)")
    db.sql("SELECT envelope.grant_key('s', 'alice')")
    reading = "SET ROLE alice; SELECT envelope.secret('s')::text; RESET ROLE;"
    with db.connect() as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute(f"{reading} DELETE FROM envelope_private.key_grant; {reading}")
