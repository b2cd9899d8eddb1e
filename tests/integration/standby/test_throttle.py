"""A job waits for standbys that are far behind, and tells which."""

from __future__ import annotations

import psycopg
import pytest

from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.adoption.fix_legacy import ADOPT, make_patients
from tests.integration.rotation.fix_jobs import Beside, until
from tests.integration.standby.conftest import MakeStandby, go_on, hold_up

PROTECT = """CALL envelope.protect('visitor', '["email"]', online => true, batch_size => 50, max_lag_mb => {})"""
UNPROTECT = "CALL envelope.unprotect('visitor', online => true, batch_size => 50, max_lag_mb => {})"
JOBS = (
    "CALL envelope.reencrypt('visitor', batch_size => 50, max_lag_mb => {})",
    "CALL envelope.add_search('visitor', 'email', batch_size => 50, max_lag_mb => {})",
    "CALL envelope.rotate_search('visitor', 'email', batch_size => 50, max_lag_mb => {})",
    "CALL envelope.convert('patient', batch_size => 50, max_lag_mb => {})",
    "CALL envelope.finish_adoption('client', batch_size => 50, destroy_key => false, max_lag_mb => {})",
)
VALUES = "SELECT count(*), md5(string_agg(email, ',' ORDER BY id)) FROM visitor"
HELD_UP = "SELECT count(*) > 0 FROM envelope.progress WHERE held_up_by LIKE 'standbys that are behind: %'"
# Some MB of WAL.
MUCH = "CREATE TABLE much AS SELECT i, repeat('x', 500) AS x FROM generate_series(1, 9000) i"


def _make_visitors(db: Database) -> None:
    db.sql("CREATE TABLE visitor (id int PRIMARY KEY, email text)")
    db.sql("INSERT INTO visitor SELECT i, 'v' || i FROM generate_series(1, 2000) i")


def _has_waited(job: Beside) -> bool:
    return any("waits for standbys that are behind" in notice for notice in job.notices)


def test_a_standby_that_is_behind(db: Database, stack: Stack, make_standby: MakeStandby) -> None:
    _make_visitors(db)
    rows = db.sql(VALUES)
    standby = make_standby(stack.broker)
    with standby.connect("postgres") as session:
        hold_up(session)
        db.sql(MUCH)
        for call in (PROTECT, UNPROTECT):
            job = Beside(db, call.format(1))
            until(db, HELD_UP, "the wait for the standby")
            assert job.alive
            assert db.sql(VALUES) == rows
            go_on(session)
            assert job.end() is None
            assert _has_waited(job)
            assert db.sql(VALUES) == rows
            hold_up(session)
            db.sql(f"DROP TABLE much; {MUCH}")
        db.sql(PROTECT.format(0))
        assert db.sql(VALUES) == rows
        go_on(session)


def test_each_job_waits_and_can_be_told_not_to(db: Database, stack: Stack, make_standby: MakeStandby) -> None:
    _make_visitors(db)
    db.sql("""CALL envelope.protect('visitor', '["email"]'); SELECT envelope.rotate('visitor')""")
    make_patients(db, rows=200)
    db.sql("CREATE TABLE client AS TABLE patient; ALTER TABLE client ADD PRIMARY KEY (id)")
    for call in (ADOPT, ADOPT.replace("patient", "client")):
        db.sql(call)
    standby = make_standby(stack.broker)
    with standby.connect("postgres") as session:
        for call in JOBS:
            hold_up(session)
            db.sql(f"DROP TABLE IF EXISTS much; {MUCH}")
            with pytest.raises(psycopg.errors.InvalidParameterValue, match="max_lag_mb"):
                db.sql(call.format(-1))
            job = Beside(db, call.format(1))
            until(db, HELD_UP, f"the wait of {call}")
            go_on(session)
            assert job.end() is None, call
            assert _has_waited(job), call
        hold_up(session)
        db.sql(f"DROP TABLE much; {MUCH}; SELECT envelope.rotate('visitor')")
        job = Beside(db, JOBS[0].format(0))
        assert job.end() is None
        assert not _has_waited(job)
        go_on(session)
