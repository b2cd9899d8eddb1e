"""Attempts that are refused for want of a right: the audit log tells who tried what."""

from __future__ import annotations

import json
import time
from typing import Any

import psycopg
import pytest

from stack.processes import wait_until
from tests.fix_fake_broker import hanging
from tests.fix_stack import Database

from .fix_people import DENIED, failure, field_uuid, stored

Connection = psycopg.Connection[Any]
BY_HAND = "SELECT envelope_internal.decrypt_text(%s, %s, '1')"
MARKER = "a-secret-in-a-wrong-place"


def told(db: Database, connection: Connection) -> list[dict[str, Any]]:
    """The refusals of a session that reached the audit log, in order."""
    lines = (json.loads(line) for line in db.stack.broker.audit_log.read_text().splitlines())
    pid = connection.info.backend_pid
    return [line for line in lines if line.get("op") == "refused" and line["who"].get("pid") == pid]


def one(db: Database, connection: Connection) -> dict[str, Any]:
    wait_until(lambda: told(db, connection), 60, "the line")
    (line,) = told(db, connection)
    assert line["outcome"] == "refused"
    assert line["who"]["database"] == db.name
    return line


@pytest.mark.parametrize("capability", [None, bytes(16)])
def test_an_envelope_by_hand(people: Database, alice: Connection, capability: bytes | None) -> None:
    envelope = stored(people)
    assert failure(alice, BY_HAND, envelope, capability).sqlstate == DENIED
    line = one(people, alice)
    assert (line["who"]["role"], line["who"]["acting"]) == ("alice", "alice")
    assert line["key_id"] == int.from_bytes(envelope[2:6], "big")
    assert line.get("label") == (None if capability is None else "public.people.email")


def test_a_named_key(people: Database, alice: Connection) -> None:
    people.sql("SELECT envelope.create_key('api')")
    people.sql("GRANT bob TO alice")
    try:
        alice.execute("SET ROLE bob")
        failure(alice, "SELECT envelope.encrypt('x', 'api')")
    finally:
        people.sql("REVOKE bob FROM alice")
    line = one(people, alice)
    assert (line["label"], line["who"]["role"], line["who"]["acting"]) == ("api", "alice", "bob")


def test_a_name_that_is_none_is_not_repeated(people: Database, alice: Connection) -> None:
    failure(alice, "SELECT envelope.encrypt('x', %s)", MARKER)
    assert "label" not in one(people, alice)
    assert MARKER not in people.stack.broker.audit_log.read_text()


def test_a_column_under_row_security(people: Database, alice: Connection) -> None:
    failure(alice, "SELECT envelope_internal.decrypt_text_as_role(%s, %s, '1')", stored(people), field_uuid(people))
    assert one(people, alice)["label"] == "public.people.email"


@pytest.mark.parametrize("row_security", [False, True])
def test_a_select_without_a_grant_is_in_the_server_s_log_only(
    people: Database, alice: Connection, row_security: bool
) -> None:
    """PostgreSQL refuses it before a function of ours runs. The broker hears of the next attempt, which is by hand."""
    if row_security:
        people.sql("ALTER TABLE people_encrypted ENABLE ROW LEVEL SECURITY; CALL envelope.refresh('people')")
    server_log = people.stack.cluster.log
    before = server_log.stat().st_size
    for relation in ("people", "people_encrypted"):
        assert failure(alice, f"SELECT email FROM {relation}").sqlstate == DENIED
    failure(alice, BY_HAND, stored(people), None)
    assert "key_id" in one(people, alice)
    written = server_log.read_bytes()[before:].decode()
    for denied in ("permission denied for view people\n", "permission denied for table people_encrypted\n"):
        assert denied in written


def test_a_loop_of_refusals_does_not_flood(people: Database, alice: Connection) -> None:
    """The first ten, then one a second, however many there are."""
    envelope, began = stored(people), time.monotonic()
    for key_id in range(1, 100):
        failure(alice, BY_HAND, envelope[:2] + key_id.to_bytes(4, "big") + envelope[6:], None)
    wait_until(lambda: len(told(people, alice)) >= 10, 60, "the first ones")
    assert len(told(people, alice)) <= 11 + time.monotonic() - began
    alice.execute("SELECT pg_sleep(1.5)")
    failure(alice, BY_HAND, envelope, None)
    wait_until(lambda: any(line.get("skipped") for line in told(people, alice)), 60, "the count of the others")


def test_who_may_leaves_no_such_line(people: Database, alice: Connection) -> None:
    people.sql("GRANT SELECT ON people TO alice")
    assert alice.execute("SELECT email FROM people WHERE id = 1").fetchone() == ("ann@example.org",)
    assert told(people, alice) == []


def test_a_broker_that_is_away_changes_nothing(people: Database, alice: Connection) -> None:
    envelope = stored(people)
    here = failure(alice, BY_HAND, envelope, None).public()
    people.stack.broker.stop()
    try:
        assert failure(alice, BY_HAND, envelope, None).public() == here
        with hanging(people.stack.broker.socket, uid=people.stack.broker.account.uid):
            assert failure(alice, BY_HAND, envelope, None).public() == here
    finally:
        people.stack.broker.start()
