"""Schedules: what is due, what rotate_due() does about it, and what happens when something stands in its way."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import failure
from tests.integration.rotation.fix_deks import notices

DUE = "SELECT level, subject, command FROM envelope.due WHERE due_at <= now() ORDER BY level, subject"
ROTATE_DUE = "CALL envelope.rotate_due()"
VERSIONS = (
    """SELECT (SELECT max(version) FROM envelope_private.dek), (SELECT max(version) FROM envelope_private.field_key)"""
)
OVERDUE = "SELECT level FROM envelope.due WHERE overdue IS NOT NULL ORDER BY level"
KEK_ROTATIONS = "SELECT kek_version FROM envelope_private.kek_rotation"


def age(db: Database, **days: int) -> None:
    """Makes what was recorded at rotations this many days older."""
    for what, number in days.items():
        table, column = ("kek_rotation", "rotated_at") if what == "kek" else (what, "created_at")
        db.sql(f"UPDATE envelope_private.{table} SET {column} = {column} - interval '{number} days'")


def check(db: Database, name: str) -> tuple[str, str]:
    ((state, detail),) = db.sql("SELECT state, detail FROM envelope.status() WHERE check_name = %s", name)
    return state, detail


def test_the_defaults(people: Database) -> None:
    found = people.sql("SELECT level, subject, every::text, transition::text, grace::text FROM envelope.schedules")
    assert found == [
        ("kek", None, "365 days", "30 days", "24:00:00"),
        ("dek", None, "90 days", "1 day", "24:00:00"),
        ("field_key", None, "30 days", "1 day", "24:00:00"),
    ]
    assert people.sql("SELECT level, subject, (due_at - last_rotated)::text FROM envelope.due") == [
        ("field_key", "public.person.email", "30 days"),
        ("dek", "public.person", "90 days"),
        ("kek", "default", "365 days"),
    ]
    assert people.sql(DUE) == []
    told = notices(people.admin)
    people.sql(ROTATE_DUE)
    assert told == ["rotate_due: nothing is due"]


def test_a_field_key_is_rotated_when_it_is_due(people: Database) -> None:
    age(people, field_key=30)
    assert people.sql(DUE) == [
        ("field_key", "public.person.email", "SELECT envelope.rotate_field('public.person', 'email')")
    ]
    assert people.sql(OVERDUE) == []
    told = notices(people.admin)
    people.sql(ROTATE_DUE)
    assert told == ["rotate_due: field_key public.person.email was rotated"]
    assert people.sql(VERSIONS) == [(1, 2)]
    assert people.sql(DUE) == []
    people.sql(ROTATE_DUE)
    assert people.sql(VERSIONS) == [(1, 2)]
    assert people.sql("SELECT email FROM person ORDER BY id") == [("a@b.c",), ("d@e.f",)]


def test_a_new_dek_brings_new_field_keys(people: Database) -> None:
    people.sql("SELECT envelope.create_key('api')")
    age(people, dek=90, field_key=90)
    people.sql(ROTATE_DUE)
    found = people.sql("SELECT version, count(*) FROM envelope_private.field_key GROUP BY 1 ORDER BY 1")
    assert found == [(1, 2), (2, 2)], "not a third by its own schedule"
    assert people.sql("SELECT version, state, count(*) FROM envelope.keys GROUP BY 1, 2 ORDER BY 1") == [
        (1, "decrypt-only", 2),
        (2, "active", 2),
    ]


def test_a_kek(people: Database) -> None:
    age(people, dek=366)
    people.sql("SELECT envelope.set_schedule('dek', NULL)")
    assert people.sql(DUE) == [("kek", "default", "CALL envelope.rotate_kek('default')")]
    assert people.sql(OVERDUE) == [], "30 days of transition"
    people.sql(ROTATE_DUE)
    ((version,),) = people.sql(KEK_ROTATIONS)
    assert people.sql("SELECT DISTINCT kek_version FROM envelope_private.dek") == [(version,)]
    assert people.sql(DUE) == []
    age(people, kek=396)
    assert people.sql(OVERDUE) == [("kek",)]


def test_rotation_by_hand_counts(people: Database) -> None:
    age(people, dek=90, field_key=90)
    people.sql("SELECT envelope.rotate('person')")
    assert people.sql(DUE) == []


def test_a_dry_run_changes_nothing(people: Database) -> None:
    age(people, dek=90)
    told = notices(people.admin)
    people.sql("CALL envelope.rotate_due(true)")
    assert told == ["rotate_due: dek public.person is due; would run: SELECT envelope.rotate('public.person')"]
    assert people.sql(VERSIONS) == [(1, 1)]


def test_a_policy_of_its_own(people: Database) -> None:
    people.sql("SELECT envelope.create_key('api')")
    people.sql("SELECT envelope.set_schedule('dek', '7 days', 'public.person', '2 days', '48 hours', true)")
    people.sql("SELECT envelope.set_schedule('dek', NULL, 'api')")
    assert people.sql("SELECT * FROM envelope.schedules WHERE subject IS NOT NULL ORDER BY subject")[0][:3] == (
        "dek",
        "api",
        None,
    )
    age(people, dek=8)
    assert people.sql(DUE) == [("dek", "public.person", "SELECT envelope.rotate('public.person')")]
    people.sql(ROTATE_DUE)
    headers = people.sql("SELECT DISTINCT substr(email, 1, 6) FROM person_encrypted")
    assert headers == people.sql(
        "SELECT substr(seal, 17) FROM envelope_private.capability JOIN envelope_private.field USING (field_uuid)"
        " JOIN envelope_private.key USING (key_uuid) WHERE base IS NOT NULL"
    ), "re-encrypted, because the schedule says so"
    assert people.sql("SELECT count(*) FROM envelope.due WHERE subject = 'api' AND level = 'dek'") == [(0,)]
    people.sql("SELECT envelope.drop_schedule('dek', 'api')")
    assert people.sql("SELECT count(*) FROM envelope.due WHERE subject = 'api' AND level = 'dek'") == [(1,)]


def test_what_is_left_out_stays(people: Database) -> None:
    people.sql("SELECT envelope.set_schedule('dek', '7 days', transition => '2 days', reencrypt => true)")
    people.sql("SELECT envelope.set_schedule('dek', '8 days')")
    assert people.sql("SELECT every::text, transition::text, reencrypt FROM envelope_private.schedule") == [
        ("8 days", "2 days", True)
    ]


@pytest.mark.parametrize(
    ("arguments", "sqlstate"),
    [
        ("'dek', '7 days', 'public.none'", "42704"),
        ("'disk', '7 days'", "23514"),
        ("'dek', '-1 days'", "23514"),
        ("'dek', '0'", "23514"),
        ("'dek', '1 day', transition => '-1 day'", "23514"),
    ],
)
def test_a_policy_that_makes_no_sense(people: Database, arguments: str, sqlstate: str) -> None:
    assert failure(people.admin, f"SELECT envelope.set_schedule({arguments})")[0] == sqlstate
    assert people.sql("SELECT * FROM envelope_private.schedule") == []


def test_a_secret_is_the_dbas_to_choose(db: Database) -> None:
    db.sql("SELECT envelope.import_secret('pass', 'one'::text)")
    assert db.sql("SELECT * FROM envelope.due WHERE level = 'secret'") == []
    db.sql("SELECT envelope.set_schedule('secret', '180 days')")
    age(db, secret=200)
    told = notices(db.admin)
    db.sql(ROTATE_DUE)
    assert told == [
        "rotate_due: secret pass is due; a new secret is yours to choose: SELECT envelope.replace_secret('pass', ...)"
    ]
    assert db.one("SELECT count(*) FROM envelope_private.secret") == 1


def test_one_that_fails_does_not_stop_the_others(people: Database) -> None:
    people.sql("CREATE TABLE other (id int PRIMARY KEY, email text)")
    people.sql("""CALL envelope.protect('other', '["email"]')""")
    people.sql("UPDATE envelope_private.key SET kek = 'none' WHERE base = 'other_encrypted'::regclass")
    age(people, dek=90, field_key=90)
    with pytest.raises(psycopg.Error) as caught:
        people.sql(ROTATE_DUE)
    report = caught.value.diag
    assert report.message_primary == "pg_envelope: 1 of 3 rotations failed"
    assert "dek public.other: the broker's configuration has no such KEK" in str(report.message_detail)
    assert people.sql("SELECT relation::text, max(version) FROM envelope.keys GROUP BY 1 ORDER BY 1") == [
        ("other", 1),
        ("person", 2),
    ]
    people.sql("UPDATE envelope_private.key SET kek = 'default'")
    people.sql(ROTATE_DUE)
    assert people.sql(DUE) == []


def test_without_a_broker_nothing_changes(breakable: Stack, people: Database) -> None:
    age(people, dek=90, field_key=90)
    breakable.broker.stop()
    assert failure(people.admin, ROTATE_DUE)[0] == "58000"
    breakable.broker.start()
    assert people.sql(VERSIONS) == [(1, 1)]
    assert people.sql("SELECT state FROM envelope.keys") == [("active",)]
    people.sql(ROTATE_DUE)
    assert people.sql(DUE) == []


def test_two_at_once(people: Database) -> None:
    age(people, dek=90)
    with people.connect() as other:
        other.execute("SELECT pg_advisory_lock('envelope_private.schedule'::regclass::oid::bigint)")
        told = notices(people.admin)
        people.sql(ROTATE_DUE)
        assert told == [f"rotate_due: another session rotates already (pid {other.info.backend_pid})"]
        assert people.sql(VERSIONS) == [(1, 1)]
        other.execute("SELECT pg_advisory_unlock_all()")
    people.sql(ROTATE_DUE)
    assert people.sql(VERSIONS) == [(2, 2)]
    assert people.one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()") == 0


def test_not_in_a_transaction_nor_for_others(people: Database) -> None:
    with people.connect(autocommit=False) as connection:
        connection.execute("SELECT 1")
        assert failure(connection, ROTATE_DUE)[0] == "25001"
    people.sql("GRANT EXECUTE ON PROCEDURE envelope.rotate_due(boolean) TO alice")
    assert failure(people.connect("alice"), ROTATE_DUE)[0] == "42501"


@pytest.mark.parametrize(
    ("shift", "due"),
    [("1 hour", False), ("89 days", False), ("91 days", True), ("50 years", True)],
)
def test_a_clock_that_was_ahead(people: Database, shift: str, due: bool) -> None:
    """A clock set back makes nothing due twice; and a time from a far future puts no rotation off for ever."""
    people.sql("UPDATE envelope_private.dek SET created_at = now() + %s::interval", shift)
    people.sql("SELECT envelope.set_schedule('kek', NULL)")
    assert (people.sql(DUE) != []) == due
    people.sql(ROTATE_DUE)
    assert people.sql(VERSIONS) == [(1 + due, 1 + due)]
    assert people.sql(DUE) == []


def test_what_is_overdue_shows(stack: Stack, people: Database) -> None:
    assert check(people, "schedule") == ("ok", "keys that are overdue: none")
    age(people, dek=100, field_key=100)
    assert check(people, "schedule") == (
        "warning",
        "keys that are overdue: field_key public.person.email, dek public.person",
    )
    assert metric(stack, people) == 2
    people.sql(ROTATE_DUE)
    assert metric(stack, people) == 0


def metric(stack: Stack, db: Database) -> float:
    lines = stack.broker.page("metrics").splitlines()
    (line,) = [line for line in lines if line.startswith(f'pg_envelope_overdue_keys{{database="{db.name}"}}')]
    return float(line.rpartition(" ")[2])


def test_a_spent_budget_shows(people: Database) -> None:
    assert check(people, "budget")[0] == "ok"
    people.sql(
        "SELECT setval(envelope_private.counter_name(field_uuid)::regclass, %s) FROM envelope_private.field", 2**31
    )
    assert check(people, "budget") == (
        "warning",
        "keys that sealed too much or lost their count: public.person.email",
    )


def test_the_log_says_why(stack: Stack, people: Database) -> None:
    start = stack.broker.audit_log.stat().st_size
    age(people, dek=90)
    people.sql(ROTATE_DUE)
    events: list[dict[str, Any]] = [
        json.loads(line) for line in stack.broker.audit_log.read_text()[start:].splitlines()
    ]
    (event,) = [event for event in events if event.get("op") == "record"]
    assert (event["action"], event["reason"]) == ("rotate", "schedule")
