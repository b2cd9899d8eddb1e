"""Re-encryption as jobs: parts, throttle, pause, resume, abort, what a kill leaves behind, and who may look."""

from __future__ import annotations

import os
import signal
from decimal import Decimal

import psycopg
import pytest

from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import failure
from tests.integration.operations.test_crash import kill_backend

from .fix_jobs import HEADERS, OLD, PROGRESS, ROWS, Beside, assert_whole, until, until_state

# Slow enough to be met between two batches.
SLOW = "CALL envelope.reencrypt('person', 50, pause_ms => 200)"
QUICK = "CALL envelope.reencrypt('person', 500)"


def test_progress_of_a_whole_table(crowd: Database) -> None:
    crowd.sql(QUICK)
    ((part, parts, state, done, total, rows),) = crowd.sql(PROGRESS)
    assert (part, parts, state, rows) == (1, 1, "done", ROWS)
    assert done == total > 1
    rate, eta, pid = crowd.sql("SELECT rows_per_second, eta, pid FROM envelope.progress")[0]
    assert rate > Decimal(0)
    assert eta is None
    assert pid == crowd.admin.info.backend_pid
    assert_whole(crowd)


def test_parts_share_the_blocks_and_the_last_one_ends_the_whole(crowd: Database) -> None:
    for part in (2, 3):
        crowd.sql(f"CALL envelope.reencrypt('person', part => {part}, parts => 3)")
        assert crowd.one("SELECT count(*) FROM envelope.receipts") == 0
    left = crowd.one(OLD)
    assert ROWS / 5 < left < ROWS * 2 / 3
    crowd.sql("CALL envelope.reencrypt('person', part => 1, parts => 3)")
    assert_whole(crowd)
    assert crowd.one("SELECT count(*) FROM envelope.receipts") == 1
    jobs = crowd.sql(PROGRESS)
    assert [(part, parts, state) for part, parts, state, *_ in jobs] == [(n, 3, "done") for n in (1, 2, 3)]
    assert sum(job[5] for job in jobs) == ROWS
    crowd.sql(QUICK)
    assert [job[:3] for job in crowd.sql(PROGRESS)] == [(1, 1, "done")], "old rows are replaced"
    assert crowd.one("SELECT count(*) FROM envelope_private.job_order") == 0


def test_a_row_that_moves_to_a_part_that_is_done_is_found(crowd: Database) -> None:
    """An update of another column takes the old envelope along to another block."""
    crowd.sql("CALL envelope.refresh('person')")
    crowd.sql("CALL envelope.reencrypt('person', part => 2, parts => 2)")
    last = "SELECT max((ctid::text::point)[0]) FROM person_encrypted WHERE id = 1"
    before = crowd.one(last)
    crowd.sql("UPDATE person_encrypted SET id = id WHERE id = 1")
    assert crowd.one(last) > before
    crowd.sql("CALL envelope.reencrypt('person', part => 1, parts => 2)")
    assert_whole(crowd)


def test_a_paused_job_holds_no_lock_and_no_snapshot_and_goes_on(crowd: Database) -> None:
    job = Beside(crowd, SLOW)
    until(crowd, "SELECT count(*) > 0 FROM envelope.progress WHERE blocks_done > 0", "the first batch")
    assert crowd.one("SELECT eta IS NOT NULL FROM envelope.progress")
    assert crowd.one("SELECT envelope.pause('person')") == 1
    until_state(crowd, "paused")
    locks = "SELECT count(*) FROM pg_locks WHERE pid = %s AND locktype NOT IN ('virtualxid')"
    until(crowd, f"SELECT ({locks}) = 0", "no lock", job.pid)
    quiet = "SELECT backend_xid IS NULL AND backend_xmin IS NULL FROM pg_stat_activity WHERE pid = %s"
    until(crowd, quiet, "no snapshot", job.pid)
    stands = crowd.sql(PROGRESS)
    rate = crowd.one("SELECT rows_per_second FROM envelope.progress")
    crowd.sql("ALTER TABLE person_encrypted ADD other int")
    assert crowd.sql(PROGRESS) == stands
    assert crowd.one("SELECT rows_per_second FROM envelope.progress") == rate, "the clock stands"
    assert crowd.one("SELECT envelope.resume('person')") == 1
    until_state(crowd, "running")
    crowd.sql("SELECT envelope.abort('person')")
    job.end()


def test_a_paused_job_can_be_cancelled_and_aborted(crowd: Database) -> None:
    for end, state, sqlstate in (
        ("SELECT pg_cancel_backend(%s)", "failed", "57014"),
        ("SELECT envelope.abort('person') FROM (SELECT %s) AS unused", "aborted", "57014"),
    ):
        job = Beside(crowd, SLOW)
        until_state(crowd, "running")
        crowd.sql("SELECT envelope.pause('person')")
        until_state(crowd, "paused")
        crowd.sql(end, job.pid)
        error = job.end()
        assert error is not None
        assert error.sqlstate == sqlstate
        assert crowd.one("SELECT state FROM envelope.progress") == state
        assert crowd.one("SELECT envelope.resume('person')") == 0, "nobody is there to resume"
    crowd.sql(QUICK)
    assert_whole(crowd)


def test_an_abort_keeps_what_is_committed_and_is_final(crowd: Database) -> None:
    job = Beside(crowd, SLOW)
    until(crowd, "SELECT count(*) > 0 FROM envelope.progress WHERE blocks_done > 0", "the first batch")
    with crowd.connect(autocommit=False) as dba:
        dba.execute("SELECT envelope.abort('person')")
        assert dba.execute("SELECT envelope.resume('person')").fetchone() == (0,)
        assert job.alive, "not before the commit, and it locks nothing of the job's"
    error = job.end()
    assert error is not None
    assert "aborted this re-encryption" in str(error)
    assert 0 < crowd.one(OLD) < ROWS
    crowd.sql(QUICK)
    assert_whole(crowd)


def test_an_abort_reaches_a_job_that_waits_for_a_row(crowd: Database) -> None:
    with crowd.connect(autocommit=False) as holder:
        holder.execute("SELECT FROM person_encrypted WHERE id = 7 FOR UPDATE")
        job = Beside(crowd, QUICK)
        until(crowd, "SELECT cardinality(pg_blocking_pids(%s)) > 0", "the wait for the row", job.pid)
        assert crowd.one(OLD) == 1, "all others were done first"
        crowd.sql("SELECT envelope.abort('person')")
        job.end()
        assert crowd.one("SELECT state FROM envelope.progress") == "aborted"


def test_a_job_never_takes_part_in_a_deadlock(crowd: Database) -> None:
    """While it waits for one row it holds no other: whoever has that row gets all others."""
    crowd.sql("SET deadlock_timeout = '50ms'")
    with crowd.connect(autocommit=False) as holder:
        holder.execute("SELECT FROM person_encrypted WHERE id = 2 FOR UPDATE")
        job = Beside(crowd, "CALL envelope.reencrypt('person', 100000)")
        until(crowd, "SELECT cardinality(pg_blocking_pids(%s)) > 0", "the wait for the row", job.pid)
        holder.execute("SET lock_timeout = '60s'")
        holder.execute("SELECT FROM person_encrypted WHERE id <> 2 FOR UPDATE")
        holder.commit()
    assert job.end() is None
    assert_whole(crowd)


def test_the_same_part_is_not_for_two_and_other_parts_are(crowd: Database) -> None:
    job = Beside(crowd, "CALL envelope.reencrypt('person', 50, pause_ms => 200, part => 1, parts => 2)")
    until_state(crowd, "running")
    sqlstate, text, hint = failure(crowd.admin, "CALL envelope.reencrypt('person', part => 1, parts => 2)")
    assert (sqlstate, text) == ("55006", "pg_envelope: another session re-encrypts this part of the table")
    assert "envelope.abort" in hint
    crowd.sql("CALL envelope.reencrypt('person', part => 2, parts => 2)")
    crowd.sql(QUICK)
    assert_whole(crowd)
    crowd.sql("SELECT envelope.abort('person')")
    job.end()


def test_after_a_kill_the_job_is_interrupted_and_a_new_call_takes_over(crowd: Database, stack: Stack) -> None:
    crowd.durable()
    crowd.sql("SELECT envelope.rotate('person')")
    job = Beside(crowd, SLOW)
    until(crowd, "SELECT count(*) > 0 FROM envelope.progress WHERE blocks_done > 0", "the first batch")
    kill_backend(stack, job.pid)
    job.end()
    with Database(stack, crowd.name) as again:
        assert again.one("SELECT state FROM envelope.progress") == "interrupted"
        assert again.one("SELECT envelope.pause('person')") == 0
        again.sql(QUICK)
        assert [job[:3] for job in again.sql(PROGRESS)] == [(1, 1, "done")]
        assert_whole(again)


def test_a_session_that_ended_its_call_otherwise_is_no_job(crowd: Database) -> None:
    """Its row says running for ever, and the session is alive, but at something else."""
    crowd.sql(QUICK)
    crowd.sql("UPDATE envelope_private.job SET state = 'running'")
    assert crowd.one("SELECT state FROM envelope.progress") == "interrupted"
    with crowd.connect() as other:
        other.execute(QUICK)
    assert crowd.one("SELECT state FROM envelope.progress") == "done"


def test_a_throttled_job_ends_at_a_cancel(crowd: Database) -> None:
    job = Beside(crowd, "CALL envelope.reencrypt('person', 50, pause_ms => 600000)")
    until(crowd, "SELECT count(*) > 0 FROM envelope.progress WHERE blocks_done > 0", "the first batch")
    os.kill(job.pid, signal.SIGINT)
    error = job.end()
    assert isinstance(error, psycopg.errors.QueryCanceled)
    assert crowd.one("SELECT state FROM envelope.progress") == "failed"
    assert crowd.one(OLD) < ROWS


def test_the_newest_blocks_come_first(crowd: Database) -> None:
    job = Beside(crowd, "CALL envelope.reencrypt('person', 50, pause_ms => 600000, newest_first => true)")
    until(crowd, "SELECT count(*) > 0 FROM envelope.progress WHERE blocks_done > 0", "the first batch")
    crowd.sql("SELECT envelope.abort('person')")
    job.end()
    newest = "(SELECT substr(seal, 17) FROM envelope_private.capability WHERE seal IS NOT NULL)"
    assert crowd.one(f"SELECT min(id) FROM person_encrypted WHERE substr(email, 1, 6) = {newest}") > ROWS / 2


def test_a_trigger_that_keeps_old_values_ends_it_with_an_error(crowd: Database) -> None:
    """Each update counts as one, and nothing gets newer: it went on for ever."""
    crowd.sql("""CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.email := OLD.email; RETURN NEW; END $$""")
    crowd.sql(
        "CREATE TRIGGER keep BEFORE UPDATE ON person_encrypted FOR EACH ROW WHEN (OLD.id = 5) EXECUTE FUNCTION keep()"
    )
    crowd.sql("ALTER TABLE person_encrypted ENABLE ALWAYS TRIGGER keep")
    crowd.sql("SET statement_timeout = '5min'")
    _, text, hint = failure(crowd.admin, QUICK)
    assert "1 rows of" in text
    assert "ENABLE ALWAYS" in hint
    assert crowd.one("SELECT state FROM envelope.progress") == "failed"


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_sessions_of_another_isolation_level(crowd: Database, level: str) -> None:
    """A row that a writer changed after the batch's snapshot is no error, but left to the next batch."""
    with crowd.connect(autocommit=False) as holder:
        holder.execute("UPDATE person_encrypted SET id = id WHERE id = 9")
        job = Beside(crowd, QUICK, f"SET default_transaction_isolation = '{level}'")
        until(crowd, "SELECT cardinality(pg_blocking_pids(%s)) > 0", "the wait for the row", job.pid)
        holder.commit()
    assert job.end() is None
    assert_whole(crowd)
    assert job.session.execute("SHOW default_transaction_isolation").fetchone() == (level,)


@pytest.mark.parametrize(
    "arguments",
    ["pause_ms => -1", "part => 0", "part => 2", "parts => 0", "part => 3, parts => 2", "part => 1, parts => 100000"],
)
def test_arguments_that_make_no_sense(crowd: Database, arguments: str) -> None:
    assert failure(crowd.admin, f"CALL envelope.reencrypt('person', {arguments})")[0] == "22023"
    assert crowd.sql(PROGRESS) == []


def test_more_parts_than_blocks(crowd: Database) -> None:
    for part in range(1, 1025):
        if part in (1, 512, 1024):
            crowd.sql(f"CALL envelope.reencrypt('person', part => {part}, parts => 1024)")
    assert crowd.one(HEADERS) == 2
    crowd.sql(QUICK)
    assert_whole(crowd)


@pytest.mark.parametrize(
    "call",
    [
        "TABLE envelope.progress",
        "TABLE envelope.receipts",
        "SELECT envelope.pause('person')",
        "SELECT envelope.resume('person')",
        "SELECT envelope.abort('person')",
        "SELECT envelope.receipt('person')",
    ],
)
def test_jobs_are_not_everybodys(crowd: Database, call: str) -> None:
    assert failure(crowd.connect("alice"), call)[0] == "42501"


def test_a_receipt_is_the_superusers_even_where_it_was_granted(crowd: Database) -> None:
    """It meets the owner's code with a superuser's session; pause and the like meet nobody's, and may be granted."""
    crowd.sql("GRANT EXECUTE ON FUNCTION envelope.receipt(regclass), envelope.pause(regclass) TO alice")
    alice = crowd.connect("alice")
    assert failure(alice, "SELECT envelope.receipt('person_encrypted')")[0] == "42501"
    assert alice.execute("SELECT envelope.pause('person')").fetchone() == (0,)
