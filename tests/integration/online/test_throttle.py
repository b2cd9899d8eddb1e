"""A roll-out takes fewer rows at a time where others wait for those that it has locked."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import psycopg
import pytest

from stack.processes import wait_until
from tests.fix_stack import Database
from tests.integration.online.fix_phases import CALLS, DIGEST
from tests.integration.rotation.fix_jobs import Beside, until

# Every batch waits for the test.
WAITS = """
CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END';
CREATE TRIGGER waits BEFORE UPDATE ON person FOR EACH ROW EXECUTE FUNCTION waits();
ALTER TABLE person ENABLE ALWAYS TRIGGER waits"""
WAITS_FOR_TEST = "SELECT wait_event = 'advisory' FROM pg_stat_activity WHERE pid = %s"
WAITS_FOR_JOB = "SELECT %s = ANY (pg_blocking_pids(%s))"
TOLD = "SELECT count(*) > 0 FROM envelope.progress WHERE held_up_by = 'lock waits of others' AND state = 'running'"
SLOWLY = ", batch_size => 200, pause_ms => 400)"


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("slow", [False, True], ids=["waits", "wakes up late"])
@pytest.mark.parametrize("act", CALLS)
def test_others_wait_for_a_batch(person: Database, act: str, slow: bool) -> None:
    rows = person.sql(DIGEST)
    if act == "unprotect":
        person.sql(CALLS["protect"])
    person.sql(WAITS)
    with person.connect() as holder:
        holder.execute("SELECT pg_advisory_lock(1)")
        job = Beside(person, CALLS[act].replace(")", SLOWLY))
        until(person, WAITS_FOR_TEST, "the first batch", job.pid)
        waiter = Beside(person, "SELECT FROM person FOR UPDATE")
        until(person, WAITS_FOR_JOB, "a lock of the job", job.pid, waiter.pid)
        # On a busy machine, a session that is woken up has to wait for a processor.
        with stopped(waiter.pid) if slow else nullcontext():
            holder.execute("SELECT pg_advisory_unlock(1)")
            wait_until(lambda: person.one(TOLD) or not job.alive, 60, "smaller batches")
            assert job.alive, job.error
    assert waiter.end() is None
    assert job.end() is None
    assert person.sql(DIGEST) == rows
    assert person.one("SELECT count(held_up_by) FROM envelope.progress") == 0


@pytest.mark.parametrize("act", CALLS)
def test_a_lag_is_no_less_than_nothing(person: Database, act: str) -> None:
    person.sql("SELECT 1" if act == "protect" else CALLS["protect"])
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="max_lag_mb"):
        person.sql(CALLS[act].replace(")", ", max_lag_mb => -1)"))
