"""adopt() and export() are one transaction each: killed at any moment, they have changed everything or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
import pytest

from tests.fix_stack import Database
from tests.integration.adoption.fix_legacy import FINISH, KEY, import_key, make_patients, token
from tests.integration.operations.test_crash import kill_backend
from tests.integration.rotation.fix_jobs import Beside

ROWS = 4000
# The unique index makes adopt() open every value and write its token.
ADOPT = "CALL envelope.adopt('patient', 'ssn', 'fernet', key => 'legacy')"
EXPORT = "CALL envelope.export('patient', 'ssn', 'fernet', key => 'legacy')"
IS_VIEW = "SELECT relkind = 'v' FROM pg_class WHERE oid = 'patient'::regclass"
VALUES = "SELECT id, name, ssn FROM patient ORDER BY id"
# Shares of the time that the call takes when nobody kills it.
MOMENTS = (0.1, 0.4, 0.7, 0.95)
CLEAR = [(row, f"name {row}", f"ssn {row}") for row in range(1, ROWS + 1)]


@pytest.fixture
def patients(db: Database) -> Database:
    make_patients(db, ROWS)
    db.sql("ALTER TABLE patient ADD UNIQUE (ssn)")
    db.durable()
    return db


def seconds_of(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


def kill(db: Database, call: str, after: float) -> None:
    job = Beside(db, call)
    time.sleep(after)
    kill_backend(db.stack, job.pid)
    job.end()


def test_adopt(patients: Database) -> None:
    name, stack = patients.name, patients.stack
    stored = patients.sql(VALUES)
    patients.sql("CREATE TABLE twin (LIKE patient INCLUDING ALL); INSERT INTO twin SELECT * FROM patient")
    takes = seconds_of(lambda: patients.sql(ADOPT.replace("patient", "twin")))
    patients.durable()
    for share in MOMENTS:
        kill(patients, ADOPT, share * takes)
        with Database(stack, name) as again:
            adopted = again.one(IS_VIEW)
            assert again.sql(VALUES) == (CLEAR if adopted else stored)
            again.durable()
        if adopted:
            break
    with Database(stack, name) as again:
        if not adopted:
            again.sql(ADOPT)
        assert again.sql(VALUES) == CLEAR
        again.sql("UPDATE patient SET ssn = %s WHERE id = 1", token("ssn new"))
        again.sql(FINISH)
        assert again.sql(VALUES) == [(1, "name 1", "ssn new"), *CLEAR[1:]]
        with pytest.raises(psycopg.errors.UniqueViolation):
            again.sql("INSERT INTO patient VALUES (0, '', 'ssn 2')")


def test_export(db: Database) -> None:
    db.sql("CREATE TABLE patient (id int PRIMARY KEY, name text, ssn text)")
    db.sql("INSERT INTO patient SELECT i, 'name ' || i, 'ssn ' || i FROM generate_series(1, %s) i", ROWS)
    db.sql("""CALL envelope.protect('patient', '["ssn"]')""")
    import_key(db, "legacy", "fernet", KEY)
    db.durable()
    takes = seconds_of(lambda: db.sql(VALUES)) * 4
    for share in MOMENTS:
        kill(db, EXPORT, share * takes)
        with Database(db.stack, db.name) as again:
            is_protected = again.one(IS_VIEW)
            if is_protected:
                assert again.sql(VALUES) == CLEAR
        if not is_protected:
            break
    with Database(db.stack, db.name) as again:
        if is_protected:
            again.sql(EXPORT)
        again.sql(ADOPT)
        assert again.sql(VALUES) == CLEAR


def test_adopt_without_a_broker_changes_nothing(patients: Database) -> None:
    stored = patients.sql(VALUES)
    patients.stack.broker.kill()
    try:
        with pytest.raises(psycopg.Error) as refused, patients.connect() as session:
            session.execute(ADOPT)
        assert (refused.value.sqlstate or "").startswith(("58", "08", "57"))
        assert patients.sql(VALUES) == stored
    finally:
        patients.stack.broker.start()
    patients.sql(ADOPT)
    assert patients.sql(VALUES) == CLEAR
