"""A roll-out that is killed or aborted in any of its phases: the same call goes on, or the table is as before."""

from __future__ import annotations

import psycopg
import pytest

from tests.fix_stack import Database
from tests.integration.online.fix_phases import DIGEST, EACH_KIND, PHASES, ROWS, abort, dump, each_phase
from tests.integration.operations.test_crash import kill_backend

LEFT = "SELECT check_name, detail FROM envelope.status() WHERE state <> 'ok' AND check_name <> 'residue'"
KIND = "SELECT replace(relkind::text, 'p', 'r') FROM pg_class WHERE oid = 'person'::regclass"
# What the relation is after each act.
KINDS = {"protect": "v", "unprotect": "r"}
# PostgreSQL 18 gives NOT NULL the name that the column has when `unprotect` sets it, and a roll-out takes no other name
# than that of the column.
USUAL_NAMES = """
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN SELECT conname AS name, format('person_%s_not_null', attname) AS usual
        FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
        WHERE conrelid = 'person'::regclass AND contype = 'n'
    LOOP
        IF found.name <> found.usual THEN
            EXECUTE format('ALTER TABLE person RENAME CONSTRAINT %I TO %I', found.name, found.usual);
        END IF;
    END LOOP;
END $$"""
pytestmark = pytest.mark.parametrize(("person", "calls"), EACH_KIND, indirect=True)


def test_it_ends_well(person: Database, calls: dict[str, str]) -> None:
    """Whatever holds it up for a while. Afterwards the table is as it was before both, as pg_dump tells."""
    schema, rows = dump(person), person.sql(DIGEST)
    for act, kind in KINDS.items():
        for phase in each_phase(person, calls[act]):
            assert person.sql(DIGEST) == rows, phase
        assert person.sql(DIGEST) == rows
        assert person.one(KIND) == kind
        assert person.sql(LEFT) == []
    assert dump(person) == schema


def test_a_killed_roll_out_goes_on_with_the_same_call(person: Database, calls: dict[str, str]) -> None:
    """It is killed in each phase: each call goes on where the one before was killed."""
    person.durable()
    schema, rows = dump(person), person.sql(DIGEST)
    for act, kind in KINDS.items():
        for phase, waiting in PHASES.items():
            with Database(person.stack, person.name) as db, waiting(db, calls[act]) as job:
                kill_backend(db.stack, job.pid)
                job.end()
            with Database(person.stack, person.name) as again:
                assert again.sql(DIGEST) == rows, phase
        with Database(person.stack, person.name) as again:
            again.sql(calls[act])
            assert again.sql(DIGEST) == rows
            assert again.one(KIND) == kind
    assert dump(person) == schema


def test_an_aborted_roll_out_leaves_no_trace(person: Database, calls: dict[str, str]) -> None:
    """An aborted unprotect leaves the table protected."""
    for act in KINDS:
        schema, rows = dump(person), person.sql(DIGEST)
        for phase in ("backfill", "old snapshots"):
            abort(person, calls[act], phase)
            assert person.sql(DIGEST) == rows, phase
            assert dump(person) == schema, phase
            if act == "unprotect":
                assert person.one("SELECT count(*) FROM person_encrypted WHERE email IS NULL") == 0, phase
        person.sql(calls[act])
        assert person.sql(DIGEST) == rows


def test_what_nobody_carries_on_can_be_taken_back(person: Database, calls: dict[str, str]) -> None:
    schema, rows = dump(person), person.sql(DIGEST)
    with PHASES["backfill"](person, calls["protect"]) as job:
        person.sql("SELECT pg_cancel_backend(%s)", job.pid)
    job.end()
    assert person.sql(DIGEST) == rows
    person.sql(calls["unprotect"])
    assert person.sql(DIGEST) == rows
    assert dump(person) == schema


def test_an_unprotect_that_nobody_carries_on_can_be_taken_back(person: Database, calls: dict[str, str]) -> None:
    person.sql(calls["protect"])
    schema, rows = dump(person), person.sql(DIGEST)
    with PHASES["backfill"](person, calls["unprotect"]) as job:
        person.sql("SELECT pg_cancel_backend(%s)", job.pid)
    job.end()
    person.sql(calls["protect"])
    assert person.sql(DIGEST) == rows
    assert dump(person) == schema


@pytest.mark.parametrize(
    ("act", "phase"), [("protect", "backfill"), ("unprotect", "backfill"), ("unprotect", "last step")]
)
def test_offline_unprotect_takes_it_back_under_one_lock(
    person: Database, calls: dict[str, str], act: str, phase: str
) -> None:
    schema, rows = dump(person), person.sql(DIGEST)
    if act == "unprotect":
        person.sql(calls["protect"])
    with PHASES[phase](person, calls[act]) as job:
        person.sql("SELECT pg_cancel_backend(%s)", job.pid)
    job.end()
    person.sql("CALL envelope.unprotect('person')")
    assert person.sql(DIGEST) == rows
    assert dump(person) == schema


def test_a_value_that_does_not_open_stops_unprotect_and_nothing_is_lost(
    person: Database, calls: dict[str, str]
) -> None:
    person.sql(calls["protect"])
    person.sql("SET session_replication_role = replica")
    person.sql("UPDATE person_encrypted SET email = set_byte(email, 30, get_byte(email, 30) # 1) WHERE id = 77")
    person.sql("RESET session_replication_role")
    with pytest.raises(psycopg.errors.DataCorrupted) as caught:
        person.sql(calls["unprotect"])
    assert "(id)=(77)" in (caught.value.diag.message_detail or "")
    assert person.one("SELECT count(*) FROM person WHERE id <> 77 AND email = 'value ' || id") == ROWS - 1
    person.sql("UPDATE person SET email = 'value 77' WHERE id = 77")
    person.sql(calls["unprotect"])
    assert person.one("SELECT count(*) FROM person WHERE email = 'value ' || id") == ROWS
    assert person.one(KIND) == KINDS["unprotect"]


def test_a_column_is_renamed_between_protect_and_unprotect(person: Database, calls: dict[str, str]) -> None:
    person.sql("ALTER TABLE person RENAME COLUMN email TO mail; ALTER TABLE person RENAME COLUMN note TO email")
    schema, rows = dump(person), person.sql(DIGEST)
    person.sql("ALTER TABLE person RENAME COLUMN email TO note; ALTER TABLE person RENAME COLUMN mail TO email")
    for unprotect in (calls["unprotect"], "CALL envelope.unprotect('person')"):
        person.sql(USUAL_NAMES)
        person.sql(calls["protect"])
        person.sql("ALTER TABLE person RENAME COLUMN email TO mail; ALTER TABLE person RENAME COLUMN note TO email")
        assert person.sql(DIGEST) == rows
        person.sql(unprotect)
        assert person.sql(DIGEST) == rows
        assert dump(person) == schema
        person.sql("ALTER TABLE person RENAME COLUMN email TO note; ALTER TABLE person RENAME COLUMN mail TO email")
