"""No event, no value: broker gone or killed, ring full, forged tokens, and the levels of set_audit."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pg_envelope import reads_check, ring
from pg_envelope.checkpoints import PublicKey
from stack.processes import wait_until
from stack.stack import Stack
from tests.fix_stack import Database, Fill
from tests.integration.sql.test_concurrency import in_background

from .fix_reads import WAIT, Recorded, entries, events_of, fill, has_ended, ledger, ring_of

ONE = "SELECT email FROM person WHERE id = 1"
LOOP = """
DO $$ DECLARE v text; BEGIN
    FOR i IN 1..300 LOOP SELECT email INTO v FROM person WHERE id = 1; END LOOP;
END $$"""


@pytest.fixture
def audited(filled: Callable[[Fill], Database]) -> Database:
    """These tests destroy no key, so a copy will do."""
    return filled(fill)


def public_key(stack: Stack) -> PublicKey:
    return PublicKey.parse(ledger(stack).with_name("reads.jsonl.pub").read_text())


def problems(stack: Stack) -> list[str]:
    return reads_check.check(ledger(stack), public_key(stack)).problems


def error(session: psycopg.Connection[Any], statement: str, *values: object) -> psycopg.Error:
    with pytest.raises(psycopg.Error) as caught:
        session.execute(statement, values or None)
    return caught.value


def test_without_a_broker_audited_columns_are_closed_and_others_are_open(audited: Database, breakable: Stack) -> None:
    session = audited.connect("alice")
    session.execute("SELECT email, phone FROM person")
    breakable.broker.kill()
    found = error(session, ONE)
    assert (found.sqlstate, found.diag.message_primary) == ("58000", "pg_envelope: the key broker is not running")
    assert session.execute("SELECT phone FROM person WHERE id = 1").fetchall() == [("1",)]
    breakable.broker.start()
    assert session.execute(ONE).fetchall() == [("user1@b.c",)]


@pytest.mark.parametrize("rounds", [1, 5])
def test_kill_of_the_broker_loses_no_event(
    audited: Database, breakable: Stack, recorded: Recorded, rounds: int
) -> None:
    session = audited.connect("alice")
    for _ in range(rounds):
        session.execute(ONE)
        breakable.broker.kill()
        error(session, ONE)
        breakable.broker.start()
    session.execute(ONE)
    events = recorded(session)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert sum(event["count"] for event in events) == rounds + 1
    assert problems(breakable) == []


def test_a_restarted_broker_goes_on_with_a_statement_under_way(
    audited: Database, breakable: Stack, recorded: Recorded
) -> None:
    session = audited.connect("alice")
    session.execute("BEGIN")
    session.execute("DECLARE a CURSOR FOR SELECT email FROM person")
    session.execute("FETCH 2 FROM a")
    breakable.broker.restart()
    session.execute("FETCH 3 FROM a")
    session.execute("COMMIT")
    session.execute(ONE)
    assert [event["count"] for event in recorded(session)] == [5, 1]


def test_kill_of_the_backend_loses_no_event(audited: Database, stack: Stack) -> None:
    session = audited.connect("alice")
    pid = session.info.backend_pid
    session.execute("BEGIN")
    session.execute("DECLARE a CURSOR FOR SELECT email FROM person")
    session.execute("FETCH 5 FROM a")
    os.kill(pid, signal.SIGKILL)
    # The server ends all sessions when one is killed.
    wait_until(lambda: not answers(audited.admin), WAIT, "the server's crash")
    with suppress(psycopg.OperationalError):
        audited.close()
    wait_until(lambda: (ring := ring_of(stack, pid)) and has_ended(stack, ring), WAIT, "the end of the session")
    assert [event["count"] for event in events_of(stack, ring_of(stack, pid))] == [5]
    wait_until(lambda: accepts(stack), WAIT, "the server after its crash")


def published(pid: int) -> int:
    """The number of the last event in a session's ring, whether or not a broker has taken it."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        if descriptor.readlink().name.startswith("memfd:pg_envelope ring"):
            head = descriptor.read_bytes()[: ring.HEAD_BYTES]
            return int.from_bytes(head[ring.PUBLISHED * ring.WORD :][: ring.WORD], sys.byteorder)
    return 0


def test_kill_of_the_backend_between_the_event_and_its_value(audited: Database, breakable: Stack) -> None:
    """At level sync the session waits for the disk with its event in the ring. The event stands, and counts nothing."""
    audited.sql("CALL envelope.set_audit('person', 'email', 'sync')")
    session = audited.connect("alice")
    session.execute(ONE)
    pid = session.info.backend_pid
    with frozen(breakable.broker.pid):
        thread, outcome = in_background(lambda: session.execute("SELECT email FROM person WHERE id = 2").fetchall())
        wait_until(lambda: published(pid) == 2, 5, "the event in the ring")
        os.kill(pid, signal.SIGKILL)
        thread.join()
    assert outcome == [None], "the connection ended without a row and without an error of ours"
    wait_until(lambda: (found := ring_of(breakable, pid)) and has_ended(breakable, found), WAIT, "the session's end")
    with suppress(psycopg.OperationalError):
        audited.close()
    wait_until(lambda: accepts(breakable), WAIT, "the server after its crash")
    events = events_of(breakable, ring_of(breakable, pid))
    assert [(event["seq"], event["count"], event["level"]) for event in events] == [(1, 1, "sync"), (2, 0, "sync")]
    assert problems(breakable) == []


def answers(session: psycopg.Connection[Any]) -> bool:
    try:
        session.execute("SELECT")
    except psycopg.OperationalError:
        return False
    return True


def accepts(stack: Stack) -> bool:
    try:
        stack.connect("postgres").close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def frozen(pid: int | None) -> Iterator[None]:
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


# Nobody waits for ten seconds in a test. The session has no ring yet, and takes this along to it.
IMPATIENT = "DO $$ GD['pg_envelope'].link._deadline = 2.0 $$ LANGUAGE plpython3u"


def test_a_full_ring_waits_and_then_refuses(audited: Database, breakable: Stack, recorded: Recorded) -> None:
    """Each value that came out has its event, and no other has. A sequence counts them, which no error takes back."""
    audited.sql("CREATE SEQUENCE values_read; GRANT USAGE ON SEQUENCE values_read TO alice")
    counted = LOOP.replace("END LOOP", "PERFORM nextval('values_read'); END LOOP")
    session = audited.connect()
    session.execute("SELECT phone FROM person")
    session.execute(IMPATIENT)
    session.execute("SET SESSION AUTHORIZATION alice")
    session.execute(ONE)
    pid = session.info.backend_pid
    wait_until(lambda: events_of(breakable, ring_of(breakable, pid)), WAIT, "the first event in the ledger")
    with frozen(breakable.broker.pid):
        found = error(session, counted)
    assert found.diag.message_primary == "pg_envelope: the broker did not answer in time"
    # The slot of the first event may still be taken: its line is written before the slot is free.
    assert audited.one("SELECT last_value FROM values_read") in (255, 256)
    session.execute(counted)
    events = recorded(session)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert sum(event["count"] for event in events) == 1 + audited.one("SELECT last_value FROM values_read")


def test_a_wait_for_a_full_ring_can_be_cancelled(audited: Database, breakable: Stack) -> None:
    session = audited.connect("alice")
    session.execute(ONE)
    session.execute("SET statement_timeout = '2s'")
    with frozen(breakable.broker.pid):
        assert isinstance(error(session, LOOP), psycopg.errors.QueryCanceled)
    session.execute("RESET statement_timeout")
    assert session.execute(ONE).fetchall() == [("user1@b.c",)]


def test_a_session_whose_ring_has_another_size_reads_nothing(audited: Database) -> None:
    """The broker refuses the ring. Server and broker live, and other sessions read."""
    session = audited.connect()
    session.execute("SELECT phone FROM person")
    session.execute("DO $$ from pg_envelope import ring; ring.SIZE = ring.HEAD_BYTES $$ LANGUAGE plpython3u")
    other = audited.connect("alice")
    for _ in range(2):
        found = error(session, ONE)
        assert (found.sqlstate, "user1" in str(found)) == ("22023", False)
    assert session.execute("SELECT phone FROM person WHERE id = 1").fetchall() == [("1",)]
    assert other.execute(ONE).fetchall() == [("user1@b.c",)]


def test_at_level_sync_the_event_is_on_the_disk_before_the_value(audited: Database, stack: Stack) -> None:
    audited.sql("CALL envelope.set_audit('person', 'email', 'sync')")
    session = audited.connect("alice")
    for expected in (1, 2):
        session.execute(ONE)
        events = events_of(stack, ring_of(stack, session.info.backend_pid))
        assert [event["level"] for event in events] == ["sync"] * expected


FORGED = {
    "a bare capability": "capability",
    "a capability and zeros": "capability || decode(repeat('00', 24), 'hex')",
    "the capability of another column": "other || uuid_send(field) || envelope_internal.read_id()",
    "another column": "capability || uuid_send(other_field) || envelope_internal.read_id()",
    "the token of another column": "other || uuid_send(other_field) || envelope_internal.read_id()",
    "a token that is too short": "capability || uuid_send(field)",
    "a token that is too long": "token || '\\x00'",
    "a random token": "decode(repeat('a5', 40), 'hex')",
}


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED.keys())
@pytest.mark.parametrize("function", ["decrypt_text", "decrypt_text_audited"])
def test_a_forged_token_opens_nothing(audited: Database, function: str, token: str) -> None:
    """By the owner, who may read the base table and the capabilities; a stranger has neither."""
    session = audited.connect("owner")
    session.execute(ONE)
    by_hand = f"""
SELECT envelope_internal.{function}(p.email, {token}, p.id::text)
FROM person_encrypted p, (SELECT c.capability, o.capability AS other, f.field_uuid AS field,
        g.field_uuid AS other_field, c.capability || uuid_send(f.field_uuid) || envelope_internal.read_id() AS token
    FROM envelope_private.field f JOIN envelope_private.capability c USING (field_uuid),
        envelope_private.field g JOIN envelope_private.capability o USING (field_uuid)
    WHERE f.attname = 'email' AND g.attname = 'phone') x WHERE p.id = 1"""
    audited.sql("GRANT SELECT ON envelope_private.field TO owner")
    assert error(session, by_hand).sqlstate in ("42501", "XX001")


def test_the_owner_s_own_token_is_an_event(audited: Database, recorded: Recorded) -> None:
    audited.sql("GRANT SELECT ON envelope_private.field TO owner")
    session = audited.connect("owner")
    found = session.execute("""
SELECT envelope_internal.decrypt_text_audited(p.email, x.token, p.id::text)
FROM person_encrypted p, (SELECT c.capability || uuid_send(f.field_uuid) || envelope_internal.read_id() AS token
    FROM envelope_private.field f JOIN envelope_private.capability c USING (field_uuid)
    WHERE f.attname = 'email' OFFSET 0) x WHERE p.id = 1""").fetchall()
    assert found == [("user1@b.c",)]
    assert [(event["user"], event["count"]) for event in recorded(session)] == [("owner", 1)]


def test_a_session_that_wrote_a_value_does_not_read_it_without_an_event(audited: Database) -> None:
    audited.sql("GRANT SELECT ON envelope_private.field TO owner")
    session = audited.connect("owner")
    session.execute("INSERT INTO person (id, email) VALUES (100, 'new@b.c')")
    bare = "SELECT envelope_internal.decrypt_text(p.email, c.capability, p.id::text) FROM person_encrypted p,"
    bare += " envelope_private.field f JOIN envelope_private.capability c USING (field_uuid)"
    bare += " WHERE f.attname = 'email' AND p.id = 100"
    assert error(session, bare).sqlstate == "42501"


def test_a_token_that_is_used_twice_counts_all_values(audited: Database, recorded: Recorded) -> None:
    """By the owner, in both functions in turn: none of them loses what the other has counted."""
    audited.sql("GRANT SELECT ON envelope_private.field TO owner")
    session = audited.connect("owner")
    session.execute("""
SELECT envelope_internal.decrypt_text_audited(p.email, x.token, p.id::text),
    envelope_internal.decrypt_bytea_audited(p.email, x.token, p.id::text)
FROM person_encrypted p, (SELECT c.capability || uuid_send(f.field_uuid) || envelope_internal.read_id() AS token
    FROM envelope_private.field f JOIN envelope_private.capability c USING (field_uuid)
    WHERE f.attname = 'email' OFFSET 0) x WHERE p.id < 5""")
    assert [event["count"] for event in recorded(session)] == [8]


def test_a_token_that_the_owner_keeps_counts_all_values_in_its_first_event(
    audited: Database, recorded: Recorded
) -> None:
    """The owner has the capability, and puts any number in the place of read_id(). No value goes uncounted, but the
    event tells the first statement, role and application only.
    """
    audited.sql("GRANT SELECT ON envelope_private.field TO owner")
    audited.sql("GRANT SELECT ON person_encrypted TO alice; GRANT alice TO owner")
    try:
        session = audited.connect("owner")
        kept = session.execute("""
SELECT c.capability || uuid_send(f.field_uuid) || int8send(77) FROM envelope_private.field f
JOIN envelope_private.capability c USING (field_uuid) WHERE f.attname = 'email'""").fetchone()
        by_hand = "SELECT envelope_internal.decrypt_text_audited(email, %s, id::text) FROM person_encrypted"
        session.execute(by_hand + " WHERE id = 1", kept)
        session.execute("SET application_name = 'another'; SET ROLE alice")
        assert len(session.execute(by_hand + " WHERE id < 5", kept).fetchall()) == 4
        session.execute(ONE)
        told = [(event["user"], event["role"], event["application"], event["count"]) for event in recorded(session)]
        assert told == [("owner", "owner", "", 5), ("owner", "alice", "another", 1)]
    finally:
        audited.sql("REVOKE alice FROM owner")


def test_a_statement_that_opens_no_value_leaves_no_event(audited: Database, recorded: Recorded) -> None:
    session = audited.connect("alice")
    assert session.execute("SELECT email FROM person WHERE id = -1").fetchall() == []
    session.execute("EXPLAIN SELECT email FROM person")
    audited.sql("UPDATE person SET email = NULL WHERE id = 3")
    assert session.execute("SELECT email FROM person WHERE id = 3").fetchall() == [(None,)]
    assert len(session.execute("SELECT email FROM person WHERE id IN (1, 2)").fetchall()) == 2
    assert [event["count"] for event in recorded(session)] == [2]


def test_set_audit_counts_in_every_session_at_once(audited: Database, recorded: Recorded) -> None:
    session = audited.connect("alice")
    session.execute("SET plan_cache_mode = force_generic_plan")
    session.execute("PREPARE p AS SELECT email, phone FROM person WHERE id = 1")
    for level in ("none", "row", "statement", "sync", "none"):
        audited.sql(f"CALL envelope.set_audit('person', 'email', '{level}')")
        assert session.execute("EXECUTE p").fetchall() == [("user1@b.c", "1")]
    assert [event["level"] for event in recorded(session)] == ["row", "statement", "sync"]


def test_set_audit_under_row_level_security_counts_in_every_session_at_once(
    audited: Database, recorded: Recorded
) -> None:
    audited.sql("CREATE TABLE note (id int PRIMARY KEY, body text); INSERT INTO note VALUES (1, 'x')")
    audited.sql("ALTER TABLE note ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON note USING (true)")
    audited.sql("""CALL envelope.protect('note', '["body"]')""")
    audited.sql("GRANT SELECT ON note TO alice")
    session = audited.connect("alice")
    session.execute("SELECT body FROM note")
    audited.sql("CALL envelope.set_audit('note', 'body', 'statement')")
    session.execute("SELECT body FROM note")
    audited.sql("CALL envelope.set_audit('note', 'body', 'none')")
    session.execute("SELECT body FROM note")
    assert [event["count"] for event in recorded(session)] == [1]


@pytest.mark.parametrize(
    ("call", "sqlstate"),
    [
        ("CALL envelope.set_audit('person', 'email', 'all')", "22023"),
        ("CALL envelope.set_audit('person', 'email', NULL)", "22023"),
        ("CALL envelope.set_audit('person', 'id', 'row')", "42704"),
        ("CALL envelope.set_audit('person', NULL, 'row')", "42704"),
        ("BEGIN; CALL envelope.set_audit('person', 'email', 'row')", "25001"),
        ("""CALL envelope.protect('other', '{"a": {"audit": 1}}')""", "22023"),
    ],
)
def test_bad_input_changes_nothing(audited: Database, call: str, sqlstate: str) -> None:
    audited.sql("CREATE TABLE other (id int PRIMARY KEY, a text)")
    before = audited.sql("SELECT * FROM envelope.columns")
    assert error(audited.admin, call).sqlstate == sqlstate
    audited.admin.rollback()
    assert audited.sql("SELECT * FROM envelope.columns") == before


def test_the_change_of_a_level_is_in_the_audit_log(audited: Database, stack: Stack) -> None:
    audited.sql("CALL envelope.set_audit('person', 'email', 'none')")
    assert '"action": "set_audit", "label": "public.person.email", "reason": "statement to none"' in (
        stack.broker.audit_log.read_text()
    )


def test_unprotect_reads_by_an_event(audited: Database, recorded: Recorded) -> None:
    session = audited.connect()
    session.execute("CALL envelope.unprotect('person')")
    assert sum(event["count"] for event in recorded(session) if event["column"] == "email") == 20


def test_a_broker_that_stops_signs_what_it_has(audited: Database, breakable: Stack) -> None:
    session = audited.connect("alice")
    session.execute(ONE)
    breakable.broker.stop()
    checked = reads_check.check(ledger(breakable), public_key(breakable))
    assert checked.problems == []
    assert checked.signed == checked.lines == len(entries(breakable))
    breakable.broker.start()


def test_a_ledger_that_was_changed_closes_audited_columns_only(audited: Database, breakable: Stack) -> None:
    session = audited.connect("alice")
    session.execute(ONE)
    breakable.broker.stop()
    file = ledger(breakable)
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b'"user":"alice"', b'"user":"bobby"', 1))
    breakable.broker.start()
    found = error(audited.connect("alice"), ONE)
    assert "the ledger of reads is broken" in (found.diag.message_primary or "")
    assert audited.connect("alice").execute("SELECT phone FROM person WHERE id = 1").fetchall() == [("1",)]
    breakable.broker.stop()
    file.write_bytes(whole)
    breakable.broker.start()
    assert audited.connect("alice").execute(ONE).fetchall() == [("user1@b.c",)]


def test_status_tells_of_a_ledger_that_cannot_be_used(audited: Database, breakable: Stack) -> None:
    check = "SELECT state FROM envelope.status() WHERE check_name = 'ledger of reads'"
    assert audited.one(check) == "ok"
    breakable.broker.stop()
    key = ledger(breakable).with_name("reads.jsonl.key")
    key.rename(key.with_name("away"))
    breakable.broker.start()
    wait_until(lambda: audited.one(check) == "failed", WAIT, "the broker's look at the ledger")
    breakable.broker.stop()
    key.with_name("away").rename(key)
    breakable.broker.start()
    assert audited.one(check) == "ok"


def test_a_column_without_a_level_costs_what_it_did(db: Database) -> None:
    """Its place in the view is the same text, and it does not call the ledger."""
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text, phone text)")
    db.sql("""CALL envelope.protect('person', '["email", "phone"]')""")
    view = "SELECT pg_get_viewdef('person'::regclass)"
    before = db.one(view)
    db.sql("CALL envelope.set_audit('person', 'phone', 'statement')")
    audited = db.one(view)
    end = ") COLLATE"
    assert before.split(end)[0] == audited.split(end)[0]
    assert "audited" not in audited.split(end)[0]
    assert "audited" in audited.split(end)[1]
    db.sql("CALL envelope.set_audit('person', 'phone', 'none')")
    assert db.one(view) == before
