"""compromise() and rotate_emergency() for one subject, one tenant, and all of a table."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import psycopg
import pytest

from stack.processes import wait_until
from tests.fix_stack import Database, Fill
from tests.integration.operations.fix_kms_life import failure

SUBJECTS = """CALL envelope.protect('visit', '["note"]', scope => 'subject', scope_column => 'person')"""
STATES = "SELECT scope, version, state FROM envelope_private.dek WHERE scope IS NOT NULL ORDER BY 1, 2"
NOTES = "SELECT id, note FROM visit ORDER BY id"
STALE = "SELECT count(*) FROM visit_encrypted WHERE envelope.is_stale(note)"
MANY = 450


def fill(db: Database) -> None:
    """visit (id, person, note): rows of ann and ben, with a key for each."""
    db.sql("CREATE TABLE visit (id int PRIMARY KEY, person text NOT NULL, note text)")
    db.sql("INSERT INTO visit VALUES (1, 'ann', 'one'), (2, 'ben', 'two'), (3, 'ann', 'three')")
    db.sql(SUBJECTS)


@pytest.fixture
def visits(filled: Callable[[Fill], Database]) -> Database:
    """A copy, for tests that neither destroy nor suspend a key."""
    return filled(fill)


@pytest.fixture
def own_visits(db: Database) -> Database:
    """The same with keys of its own."""
    fill(db)
    return db


def old_envelopes(db: Database) -> int:
    """How many values are under a key that is not active."""
    return int(
        db.one(
            "SELECT count(*) FROM visit_encrypted v JOIN envelope_private.field_key k"
            " ON substr(int8send(k.key_id), 5) = substr(v.note::bytea, 3, 4) WHERE k.state <> 'active'"
        )
    )


def test_one_subject_and_no_other(visits: Database) -> None:
    before = visits.one("SELECT note FROM visit_encrypted WHERE id = 2")
    visits.sql("CALL envelope.rotate_emergency('visit', 'laptop stolen', 'ann')")
    assert visits.sql(STATES) == [("ann", 1, "compromised"), ("ann", 2, "active"), ("ben", 1, "active")]
    assert visits.sql(NOTES) == [(1, "one"), (2, "two"), (3, "three")]
    assert (visits.one(STALE), old_envelopes(visits)) == (0, 0)
    assert visits.one("SELECT note FROM visit_encrypted WHERE id = 2") == before


def test_all_subjects_in_batches(visits: Database) -> None:
    visits.sql("INSERT INTO visit SELECT i, 'p' || i, 'n' || i FROM generate_series(4, %s) i", MANY)
    newest = visits.one("SELECT last_value FROM envelope_private.dek_id_seq")
    visits.sql("CALL envelope.rotate_emergency('visit', 'memory dump')")
    found = visits.sql(
        "SELECT version, state, count(*) FROM envelope_private.dek WHERE scope IS NOT NULL GROUP BY 1, 2 ORDER BY 1"
    )
    assert found == [(1, "compromised", MANY - 1), (2, "active", MANY - 1)]
    assert (visits.one(STALE), old_envelopes(visits)) == (0, 0)
    assert visits.sql(NOTES)[3:] == [(i, f"n{i}") for i in range(4, MANY + 1)]
    alive = "SELECT count(*) FROM envelope_private.{} WHERE dek_id <= %s"
    assert visits.one(alive.format("spare_dek"), newest) == 0, "spares that others may know are gone"
    assert visits.one(alive.format("dek") + " AND scope IS NOT NULL AND state = 'active'", newest) == 0


def test_tenants_in_the_key_store(db: Database) -> None:
    db.sql("CREATE TABLE visit (id int PRIMARY KEY, person text NOT NULL, note text)")
    db.sql("INSERT INTO visit VALUES (1, 'acme', 'one'), (2, 'zen', 'two')")
    db.sql(SUBJECTS.replace("'subject'", "'tenant'"))
    assert db.one("SELECT DISTINCT store FROM envelope_private.dek WHERE scope IS NOT NULL") == "vault"
    db.sql("CALL envelope.rotate_emergency('visit', 'test')")
    assert db.sql(STATES) == [
        (who, 1 + new, state) for who in ("acme", "zen") for new, state in enumerate(("compromised", "active"))
    ]
    assert db.sql(NOTES) == [(1, "one"), (2, "two")]


def test_all_tables_that_share_the_keys(visits: Database) -> None:
    visits.sql("CREATE TABLE mail (id int PRIMARY KEY, person text NOT NULL, body text)")
    visits.sql("INSERT INTO mail VALUES (1, 'ann', 'hello')")
    shared = SUBJECTS.replace("'visit', '[\"note\"]'", "'mail', '[\"body\"]'").replace(")", ", scope_of => 'visit')")
    visits.sql(shared)
    visits.sql("CALL envelope.rotate_emergency('mail', 'test', 'ann')")
    assert visits.one("SELECT count(*) FROM mail_encrypted WHERE envelope.is_stale(body)") == visits.one(STALE) == 0
    assert visits.sql("SELECT body FROM mail") == [("hello",)]
    assert visits.sql(NOTES) == [(1, "one"), (2, "two"), (3, "three")]


def test_the_erased_stay_erased(own_visits: Database) -> None:
    own_visits.sql("CALL envelope.shred('visit', 'ann', 'ticket 7')")
    own_visits.sql("CALL envelope.rotate_emergency('visit', 'test')")
    assert own_visits.sql(STATES) == [("ann", 1, "destroyed"), ("ben", 1, "compromised"), ("ben", 2, "active")]
    assert failure(own_visits.admin, "CALL envelope.rotate_emergency('visit', 'test', 'ann')")[0] == "55000"


def test_the_suspended_come_back_compromised(own_visits: Database) -> None:
    """Nothing undoes the suspension; what is written after it has a key that nobody knew."""
    own_visits.sql("CALL envelope.suspend('visit', 'ann', 'unpaid')")
    assert failure(own_visits.admin, "CALL envelope.rotate_emergency('visit', 'test', 'ann')")[0] == "55000"
    own_visits.sql("CALL envelope.rotate_emergency('visit', 'test')")
    assert own_visits.sql(STATES) == [("ann", 1, "suspended"), ("ben", 1, "compromised"), ("ben", 2, "active")]
    own_visits.sql("CALL envelope.unsuspend('visit', 'ann')")
    assert own_visits.sql(STATES)[0] == ("ann", 1, "compromised")
    own_visits.sql("INSERT INTO visit VALUES (4, 'ann', 'four')")
    assert own_visits.sql(STATES)[:2] == [("ann", 1, "compromised"), ("ann", 2, "active")]
    own_visits.sql("CALL envelope.reencrypt('visit')")
    assert old_envelopes(own_visits) == 0
    assert own_visits.sql(NOTES) == [(1, "one"), (2, "two"), (3, "three"), (4, "four")]


def test_a_notification_names_no_subject(visits: Database) -> None:
    with visits.connect("alice") as listener:
        listener.execute("LISTEN envelope")
        visits.sql("CALL envelope.rotate_emergency('visit', 'test', 'ann')")
        (heard,) = listener.notifies(timeout=60, stop_after=1)
    assert json.loads(heard.payload) == {"event": "rotate_emergency", "relation": "public.visit"}


def test_each_change_is_in_the_audit_log(visits: Database) -> None:
    log = visits.stack.broker.audit_log
    start = log.stat().st_size
    visits.sql("CALL envelope.rotate_emergency('visit', 'laptop stolen', 'ann')")
    events = [json.loads(line) for line in log.read_text()[start:].splitlines()]
    (told,) = [event for event in events if event.get("op") == "record" and event["action"] == "rotate_emergency"]
    (old,) = visits.sql("SELECT dek_id FROM envelope_private.dek WHERE scope = 'ann' AND state = 'compromised'")
    assert (told["label"], told["reason"]) == ("public.visit", "laptop stolen")
    for before, after in (("active", "decrypt-only"), ("decrypt-only", "compromised")):
        assert {"dek_id": old[0], "from": before, "to": after} in told["transitions"]
    assert "ann" not in json.dumps(told)


def test_killed_between_two_batches_it_is_called_again(visits: Database) -> None:
    visits.sql("INSERT INTO visit SELECT i, 'p' || i, 'n' || i FROM generate_series(4, %s) i", MANY)
    holder, session = visits.connect(autocommit=False), visits.connect()
    # The last of the second batch: who takes its lock waits there, with the first batch committed.
    (last,) = visits.sql(
        "SELECT DISTINCT scope FROM envelope_private.dek WHERE scope IS NOT NULL ORDER BY 1 OFFSET 300 LIMIT 1"
    )[0]
    holder.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(coalesce(scope_of, key_uuid)::text || ' ' || %s, 0))"
        " FROM envelope_private.key WHERE scope <> 'table'",
        [last],
    )
    errors: list[psycopg.Error] = []

    def run() -> None:
        try:
            session.execute("CALL envelope.rotate_emergency('visit', 'test')")
        except psycopg.Error as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    pid = session.info.backend_pid
    wait_until(lambda: visits.one("SELECT cardinality(pg_blocking_pids(%s)) > 0", pid), 60, "the wait for the lock")
    visits.sql("SELECT pg_terminate_backend(%s)", pid)
    thread.join()
    holder.rollback()
    assert len(errors) == 1
    counts = dict(visits.sql("SELECT state, count(*) FROM envelope_private.dek WHERE scope IS NOT NULL GROUP BY 1"))
    assert counts == {"active": MANY - 1, "compromised": 200}
    visits.sql("CALL envelope.rotate_emergency('visit', 'test')")
    assert visits.one("SELECT count(*) FROM envelope_private.dek WHERE state = 'decrypt-only'") == 0
    assert old_envelopes(visits) == 0
    assert visits.sql(NOTES)[3:] == [(i, f"n{i}") for i in range(4, MANY + 1)]


def test_compromise_one_and_all(visits: Database) -> None:
    visits.sql("SELECT envelope.rotate('visit', 'ann')")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as caught:
        visits.sql("SELECT envelope.compromise('visit', 1)")
    assert caught.value.diag.message_detail == "it is that of 1 of 2 tenants or subjects"
    visits.sql("SELECT envelope.compromise('visit', 1, 'test', 'ann')")
    assert visits.sql(STATES) == [("ann", 1, "compromised"), ("ann", 2, "active"), ("ben", 1, "active")]
    assert failure(visits.admin, "SELECT envelope.compromise('visit', 1, 'test', 'ben')")[0] == "55000"
    visits.sql("SELECT envelope.rotate('visit', 'ben')")
    visits.sql("SELECT envelope.compromise('visit', 1)")
    assert [state for _, version, state in visits.sql(STATES) if version == 1] == ["compromised", "compromised"]
    assert visits.sql(NOTES) == [(1, "one"), (2, "two"), (3, "three")]


@pytest.mark.parametrize(
    ("call", "sqlstate"),
    [
        ("CALL envelope.rotate_emergency('visit', 'test', 'nobody')", "42704"),
        ("SELECT envelope.compromise('visit', 1, 'test', 'nobody')", "42704"),
        ("SELECT envelope.compromise('visit', 9)", "42704"),
        ("CALL envelope.rotate_emergency('visit', ' ', 'ann')", "22023"),
        ("CALL envelope.rotate_emergency('plain', 'test', 'ann')", "22023"),
        ("SELECT envelope.compromise('plain', 1, 'test', 'ann')", "22023"),
    ],
)
def test_refusals(visits: Database, call: str, sqlstate: str) -> None:
    visits.sql("CREATE TABLE plain (id int PRIMARY KEY, note text)")
    visits.sql("""CALL envelope.protect('plain', '["note"]')""")
    before = visits.sql("SELECT dek_id, state FROM envelope_private.dek ORDER BY 1")
    assert failure(visits.admin, call)[0] == sqlstate
    assert visits.sql("SELECT dek_id, state FROM envelope_private.dek ORDER BY 1") == before
