"""suspend() and unsuspend(): who is stopped, when, what a crash leaves, and what may still be done with the key."""

from __future__ import annotations

import json
import threading
from typing import Any

import psycopg
import pytest

from stack.processes import wait_until
from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import READ, answers, failure

REVOKE = "CALL envelope.suspend('person', reason => 'unpaid')"
RESTORE = "CALL envelope.unsuspend('person')"
STATES = "SELECT version, state FROM envelope.keys ORDER BY version"
SUSPENDED = ("55000", "pg_envelope: the key is suspended")
WAITS_FOR_ADVISORY = "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'advisory'"


def records(stack: Stack, start: int) -> list[dict[str, Any]]:
    lines = stack.broker.audit_log.read_text()[start:].splitlines()
    return [event for line in lines if (event := json.loads(line)).get("op") == "record"]


def test_warm_sessions_stop_at_their_next_call_and_go_on_after_the_return(people: Database) -> None:
    people.sql("CREATE TABLE other (id int PRIMARY KEY, email text)")
    people.sql("""CALL envelope.protect('other', '["email"]')""")
    people.sql("INSERT INTO other VALUES (1, 'still here')")
    warm = people.connect()
    assert warm.execute(READ).fetchone() == ("a@b.c",)
    people.sql(REVOKE)
    for session in (warm, people.connect()):
        for statement in (READ, "INSERT INTO person VALUES (3, 'new')", "UPDATE person SET email = 'x' WHERE id = 1"):
            assert failure(session, statement)[:2] == SUSPENDED
    assert warm.execute("SELECT email FROM other").fetchone() == ("still here",)
    people.sql(RESTORE)
    warm.execute("INSERT INTO person VALUES (3, 'new')")
    assert warm.execute("SELECT email FROM person ORDER BY id").fetchall() == [("a@b.c",), ("d@e.f",), ("new",)]


def test_each_version_returns_to_its_own_state(stack: Stack, people: Database) -> None:
    people.sql("SELECT envelope.rotate('person')")
    people.sql("SELECT envelope.rotate('person')")
    people.sql("SELECT envelope.compromise('person', 1)")
    before, start = people.sql(STATES), stack.broker.audit_log.stat().st_size
    people.sql(REVOKE)
    people.sql(REVOKE)
    assert people.sql(STATES) == [(1, "suspended"), (2, "suspended"), (3, "suspended")]
    people.sql(RESTORE)
    people.sql(RESTORE)
    assert people.sql(STATES) == before == [(1, "compromised"), (2, "decrypt-only"), (3, "active")]
    taken, given = records(stack, start)
    assert (taken["action"], taken["label"], taken["reason"]) == ("suspend", "public.person", "unpaid")
    assert {"dek_id": 1, "from": "compromised", "to": "suspended"} in taken["transitions"]
    assert {"dek_id": 3, "from": "suspended", "to": "active"} in given["transitions"]
    assert len(taken["transitions"]) == len(given["transitions"]) == 3


def test_status_counts_versions_that_are_still_suspended_and_no_retired_ones(people: Database) -> None:
    shown = "SELECT state, detail FROM envelope.status() WHERE check_name = 'suspended'"
    people.sql("SELECT envelope.rotate('person')")
    people.sql(REVOKE)
    people.sql("CALL envelope.unsuspend('person', version => 2)")
    assert people.sql(STATES) == [(1, "suspended"), (2, "active")]
    (found,) = people.sql(shown)
    assert found[0] == "warning"
    assert "person (DEKs: 1)" in found[1]
    people.sql(RESTORE)
    people.sql("CALL envelope.reencrypt('person')")
    people.sql("CALL envelope.retire('person', 1)")
    assert (1, "suspended") in people.sql(STATES)
    assert people.sql(shown)[0][0] == "ok"


def test_a_call_after_a_crash_between_commit_and_flush_flushes(people: Database) -> None:
    warm = people.connect()
    warm.execute(READ)
    people.sql("UPDATE envelope_private.dek SET state = 'suspended', suspended_from = state")
    assert warm.execute(READ).fetchone() == ("a@b.c",), "what it holds is out of date"
    people.sql(REVOKE)
    assert failure(warm, READ)[:2] == SUSPENDED


def test_a_broker_that_dies_between_commit_and_flush_is_told_of(breakable: Stack, people: Database) -> None:
    """A deferred trigger holds the commit, when the broker has recorded the change."""
    people.sql(
        "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END'"
    )
    people.sql(
        "CREATE CONSTRAINT TRIGGER hold AFTER UPDATE ON envelope_private.dek"
        " INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hold()"
    )
    people.sql("SELECT pg_advisory_lock(7)")
    session, caught = people.connect(), []

    def suspend() -> None:
        try:
            session.execute(REVOKE)
        except psycopg.Error as error:
            caught.append(error)

    thread = threading.Thread(target=suspend)
    thread.start()
    wait_until(lambda: people.one(WAITS_FOR_ADVISORY), 60, "the commit")
    breakable.broker.kill()
    people.sql("SELECT pg_advisory_unlock(7)")
    thread.join()
    report = caught[0].diag
    assert report.sqlstate == "58000"
    assert "until the key's time in the session is over" in str(report.message_detail)
    assert str(report.message_hint).endswith("Then call suspend() again.")
    assert people.sql(STATES) == [(1, "suspended")]
    breakable.broker.start()
    people.sql("DROP TRIGGER hold ON envelope_private.dek")
    people.sql(REVOKE)
    assert failure(people.connect(), READ)[:2] == SUSPENDED
    people.sql(RESTORE)
    assert people.one(READ) == "a@b.c"


def test_without_a_broker_nothing_is_suspended_and_nothing_restored(breakable: Stack, people: Database) -> None:
    breakable.broker.kill()
    assert failure(people.admin, REVOKE)[0] == "58000"
    assert people.sql(STATES) == [(1, "active")], "no change goes unrecorded"
    breakable.broker.start()
    wait_until(lambda: answers(people.admin), 60, "the broker")


def test_a_kms_that_is_down_does_not_keep_a_key_from_being_suspended(breakable: Stack, people: Database) -> None:
    people.sql(READ)
    breakable.openbao.kill()
    people.sql(REVOKE)
    assert failure(people.admin, READ)[:2] == SUSPENDED
    breakable.openbao.start()
    people.sql(RESTORE)
    wait_until(lambda: answers(people.admin), 60, "recovery")


@pytest.mark.parametrize("level", [psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE])
def test_an_older_snapshot_gives_no_key_away(people: Database, level: psycopg.IsolationLevel) -> None:
    """Its catalog shows the key as active."""
    warm, cold = people.connect(autocommit=False), people.connect(autocommit=False)
    for session, statement in ((warm, READ), (cold, "SELECT 1")):
        session.isolation_level = level
        session.execute(statement)  # type: ignore[call-overload]
    people.sql(REVOKE)
    for session in (warm, cold):
        assert session.execute("SELECT state FROM envelope.keys").fetchone() == ("active",)
        sqlstate, _, hint = failure(session, READ)
        assert (sqlstate, hint) == ("40001", "A key was suspended since this transaction began: run it again.")
        session.rollback()
        assert failure(session, READ)[:2] == SUSPENDED
        session.rollback()
    people.sql(RESTORE)
    assert warm.execute(READ).fetchone() == cold.execute(READ).fetchone() == ("a@b.c",)


def test_no_new_version_undoes_it(people: Database) -> None:
    people.sql(REVOKE)
    for statement in (
        "SELECT envelope.rotate('person')",
        "SELECT envelope.rotate_field('person', 'email')",
        "CALL envelope.rotate_emergency('person', 'test')",
    ):
        assert failure(people.admin, statement)[:2] == SUSPENDED
    state, message, _ = failure(people.admin, "CALL envelope.unprotect('person')")
    assert (state, "values do not open; nothing was changed" in message) == ("XX001", True)
    assert people.sql(STATES) == [(1, "suspended")]


def test_a_compromised_version_stays_suspended_until_it_returns(people: Database) -> None:
    people.sql("SELECT envelope.rotate('person')")
    people.sql(REVOKE)
    people.sql("SELECT envelope.compromise('person', 1)")
    assert people.sql(STATES) == [(1, "suspended"), (2, "suspended")]
    assert failure(people.admin, "SELECT envelope.compromise('person', 2)")[1].endswith("is the active one")
    people.sql(RESTORE)
    assert people.sql(STATES) == [(1, "compromised"), (2, "active")]


def test_a_kek_takes_suspended_keys_along(stack: Stack, people: Database) -> None:
    people.sql(REVOKE)
    people.sql("CALL envelope.rotate_kek('default')")
    ((state, version),) = people.sql("SELECT state, kek_version FROM envelope.keys")
    key = stack.openbao.request("GET", "transit/keys/pg-envelope-default")["data"]
    assert (state, version) == ("suspended", key["latest_version"])
    people.sql(RESTORE)
    assert people.one(READ) == "a@b.c"


def test_a_named_key(people: Database) -> None:
    people.sql("SELECT envelope.create_key('app')")
    value = people.one("SELECT envelope.encrypt('secret'::text, 'app')")
    reading = "SELECT envelope.decrypt(%s)"
    people.sql("CALL envelope.suspend_key('app', 'test')")
    with pytest.raises(psycopg.Error, match="suspended"):
        people.sql(reading, value)
    assert failure(people.admin, "SELECT envelope.encrypt('x'::text, 'app')")[:2] == SUSPENDED
    assert failure(people.admin, "SELECT envelope.rotate_key('app')")[:2] == SUSPENDED
    assert people.one(READ) == "a@b.c"
    people.sql("CALL envelope.unsuspend_key('app')")
    assert people.one(reading, value) == "secret"


@pytest.mark.parametrize("call", ["suspend('person')", "unsuspend('person')", "suspend_key('a')", "unsuspend_key('a')"])
def test_only_superusers_outside_a_transaction(people: Database, call: str) -> None:
    name = call.partition("(")[0]
    people.sql("GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA envelope TO alice")
    assert failure(people.connect("alice"), f"CALL envelope.{call}")[:2] == (
        "42501",
        f"pg_envelope: {name}() needs a superuser",
    )
    with people.connect(autocommit=False) as session:
        session.execute("SELECT 1")
        assert failure(session, f"CALL envelope.{call}")[0] == "25001"


def test_what_has_no_key(people: Database) -> None:
    people.sql("CREATE TABLE plain (id int)")
    for statement, sqlstate in (
        ("CALL envelope.suspend('plain')", "42704"),
        ("CALL envelope.suspend(NULL)", "42704"),
        ("CALL envelope.suspend('person', 'acme')", "22023"),
        ("CALL envelope.suspend_key('none')", "42704"),
        ("CALL envelope.suspend_key(NULL)", "42704"),
    ):
        assert failure(people.admin, statement)[0] == sqlstate
