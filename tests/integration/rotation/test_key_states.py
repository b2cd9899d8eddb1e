"""rotate_field(), compromise() and rotate_emergency(): versions, states, notifications and the audit log."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import failure
from tests.integration.operations.test_crash import kill_backend

from .fix_deks import ManyDeks, Under, notices

HEADERS = "SELECT DISTINCT substr(email, 1, 6) FROM person_encrypted"
SEALS = """
SELECT substr(seal, 17) FROM envelope_private.capability c JOIN envelope_private.field f USING (field_uuid)
WHERE f.attname = 'email'"""
ROTATE = "SELECT envelope.rotate('person')"
STATES = "SELECT version, state FROM envelope.keys WHERE name IS DISTINCT FROM 'pg_envelope receipts' ORDER BY version"
WARNINGS = "SELECT check_name, state, detail FROM envelope.status() WHERE state <> 'ok'"


def records(stack: Stack, start: int) -> list[dict[str, Any]]:
    """The audit log's lines about states since it had this size."""
    lines = stack.broker.audit_log.read_text()[start:].splitlines()
    return [event for line in lines if (event := json.loads(line)).get("op") == "record"]


@pytest.fixture
def start(stack: Stack, people: Database) -> int:
    return int(stack.broker.audit_log.stat().st_size)


def test_a_new_field_key_is_used_by_the_next_write(stack: Stack, people: Database, start: int) -> None:
    assert people.one("SELECT envelope.rotate_field('person', 'email')") == 2
    people.sql("INSERT INTO person VALUES (3, 'new')")
    assert len(people.sql(HEADERS)) == 2
    assert people.sql(STATES) == [(1, "active")], "the DEK is the same"
    assert people.one("SELECT count(DISTINCT salt) FROM envelope_private.field_key") == 2
    assert people.sql("SELECT email FROM person ORDER BY id") == [("a@b.c",), ("d@e.f",), ("new",)]
    people.sql("CALL envelope.reencrypt('person')")
    assert len(people.sql(HEADERS)) == 1
    assert people.sql("SELECT email FROM person ORDER BY id") == [("a@b.c",), ("d@e.f",), ("new",)]
    event, *_ = records(stack, start)
    assert (event["action"], event["label"]) == ("rotate_field", "public.person.email")
    assert event["transitions"] == [
        {"key_id": 1, "from": "active", "to": "decrypt-only"},
        {"key_id": 2, "from": None, "to": "active"},
    ]


def test_a_field_that_is_not_protected_has_no_key(people: Database) -> None:
    for column in ("'id'", "'none'", "NULL"):
        sqlstate, _, hint = failure(people.admin, f"SELECT envelope.rotate_field('person', {column})")
        assert (sqlstate, hint) == ("42704", "envelope.columns lists them.")


def test_a_compromised_version_decrypts_and_is_warned_about(stack: Stack, people: Database, start: int) -> None:
    people.sql(ROTATE)
    people.sql("SELECT envelope.compromise('person', 1, 'found in a log')")
    people.sql("SELECT envelope.flush('test')")
    assert people.sql(STATES) == [(1, "compromised"), (2, "active")]
    assert people.sql("SELECT email FROM person ORDER BY id") == [("a@b.c",), ("d@e.f",)]
    assert people.sql(WARNINGS) == [
        ("compromised", "warning", "key versions that are compromised: public.person version 1")
    ]
    rotated, marked = records(stack, start)
    assert (marked["action"], marked["reason"]) == ("compromise", "found in a log")
    assert marked["transitions"] == [
        {"dek_id": 1, "from": "decrypt-only", "to": "compromised"},
        {"key_id": 1, "from": "decrypt-only", "to": "compromised"},
    ]
    assert {"dek_id": 2, "from": None, "to": "active"} in rotated["transitions"]


def test_the_active_version_cannot_be_compromised(people: Database) -> None:
    sqlstate, text, hint = failure(people.admin, "SELECT envelope.compromise('person', 1)")
    assert (sqlstate, text) == ("55000", "pg_envelope: this version is the active one")
    assert "rotate_emergency" in hint
    assert people.sql(STATES) == [(1, "active")]


@pytest.mark.parametrize("version", ["7", "0", "NULL"])
def test_an_unknown_version_cannot_be_compromised(people: Database, version: str) -> None:
    assert failure(people.admin, f"SELECT envelope.compromise('person', {version})")[0] == "42704"


def test_named_keys_likewise(db: Database) -> None:
    db.sql("SELECT envelope.create_key('k')")
    value = db.one("SELECT envelope.encrypt('x'::text, 'k', 'here')")
    assert failure(db.admin, "SELECT envelope.compromise_key('k', 1)")[0] == "55000"
    assert failure(db.admin, "SELECT envelope.compromise_key('none', 1)")[0] == "42704"
    db.sql("SELECT envelope.rotate_key('k')")
    db.sql("SELECT envelope.compromise_key('k', 1, 'test')")
    assert db.one("SELECT envelope.decrypt(%s, 'here')", value) == "x"
    assert db.sql(STATES) == [(1, "compromised"), (2, "active")]


def test_an_emergency_leaves_no_value_under_an_old_key(stack: Stack, people: Database, start: int) -> None:
    people.sql(ROTATE)
    with people.connect("bob") as listener:
        listener.execute("LISTEN envelope")
        told = notices(people.admin)
        people.sql("CALL envelope.rotate_emergency('person', 'laptop stolen')")
        (heard,) = listener.notifies(timeout=60, stop_after=1)
    assert json.loads(heard.payload) == {"event": "rotate_emergency", "relation": "public.person", "version": 3}
    assert people.sql(STATES) == [(1, "compromised"), (2, "compromised"), (3, "active")]
    assert people.sql(SEALS) == people.sql(HEADERS)
    assert people.sql("SELECT email FROM person ORDER BY id") == [("a@b.c",), ("d@e.f",)]
    assert told[0] == "rotate_emergency: new writes use version 3; compromised: 1, 2"
    _, rotated, marked, *_ = records(stack, start)
    assert (rotated["action"], marked["action"]) == ("rotate", "rotate_emergency")
    assert rotated["reason"] == marked["reason"] == "laptop stolen"
    assert '"op": "flush"' in stack.broker.audit_log.read_text()[start:]


def test_sessions_forget_their_keys_in_an_emergency(stack: Stack, people: Database) -> None:
    other = people.connect()
    other.execute("SELECT * FROM person")
    people.sql("CALL envelope.rotate_emergency('person', 'test')")
    size = stack.broker.audit_log.stat().st_size
    other.execute("SELECT * FROM person")
    assert '"op": "derive", "outcome": "ok"' in stack.broker.audit_log.read_text()[size:]


def test_an_emergency_that_is_killed_is_ended_by_reencrypt(many_deks: Callable[[str, int], ManyDeks]) -> None:
    """By then the new key is in use, and the old one compromised; only old values are left to do."""
    deks = many_deks("catalog", 1)
    with deks.stack.connect(deks.name, autocommit=False) as blocker:
        blocker.execute("SELECT FROM person_encrypted WHERE id = 2 FOR UPDATE")
        under = Under(deks, "CALL envelope.rotate_emergency('person', 'test')")
        kill_backend(deks.stack, under.pid)
        under.end()
        blocker.close()
    assert deks.sql("SELECT version, state FROM envelope.keys WHERE relation IS NOT NULL ORDER BY 1") == [
        (1, "compromised"),
        (2, "active"),
    ]
    assert len(deks.sql(HEADERS)) == 2
    deks.assert_all_open()
    deks.sql("CALL envelope.reencrypt('person')")
    assert len(deks.sql(HEADERS)) == 1
    deks.assert_all_open()


@pytest.mark.parametrize("reason", ["''", "' '", "NULL"])
def test_an_emergency_needs_a_reason(people: Database, reason: str) -> None:
    assert failure(people.admin, f"CALL envelope.rotate_emergency('person', {reason})")[0] == "22023"
    assert people.sql(STATES) == [(1, "active")]


def test_an_emergency_is_not_for_transactions_nor_for_others(people: Database) -> None:
    call = "CALL envelope.rotate_emergency('person', 'test')"
    with people.connect(autocommit=False) as connection:
        connection.execute("SELECT 1")
        assert failure(connection, call)[0] == "25001"
    people.sql("GRANT EXECUTE ON PROCEDURE envelope.rotate_emergency(regclass, text, text) TO alice")
    assert failure(people.connect("alice"), call)[0] == "42501"
    assert people.sql(STATES) == [(1, "active")]


def test_without_a_broker_nothing_changes(breakable: Stack, people: Database) -> None:
    """No change of a state without its line in the audit log."""
    people.sql(ROTATE)
    breakable.broker.stop()
    for statement in ("SELECT envelope.rotate_field('person', 'email')", "SELECT envelope.compromise('person', 1)"):
        assert failure(people.admin, statement)[0] == "58000"
    breakable.broker.start()
    assert people.sql(STATES) == [(1, "decrypt-only"), (2, "active")]
    assert people.one("SELECT count(*) FROM envelope_private.field_key") == 2


def test_hostile_search_path_changes_nothing(people: Database) -> None:
    """The procedures cannot pin it by SET; what a schema of the caller's shadows is not called."""
    people.sql("CREATE SCHEMA trap")
    for name in ("count(text)", "unnest(anyarray)", "pg_notify(text, text)", "max(integer)"):
        people.sql(f"CREATE FUNCTION trap.{name} RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$")
    people.sql("CREATE FUNCTION trap.eq(text, text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$")
    people.sql("CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.eq)")
    with people.connect() as connection:
        connection.execute("SET search_path = trap, pg_catalog, public")
        with pytest.raises(psycopg.Error, match="trapped"):
            connection.execute("SELECT 'a'::text = 'a'::text")
        connection.execute("CALL envelope.rotate_kek('default')")
        connection.execute("CALL envelope.rotate_emergency('person', 'test')")
        connection.execute("SELECT envelope.rotate_field('person', 'email')")
    assert people.sql("SELECT email FROM person ORDER BY id") == [("a@b.c",), ("d@e.f",)]
