"""Jobs beside others: pgbench's writers, an emergency, and the command line with several sessions."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from stack.processes import wait_until
from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.client.test_commands import Command

from .fix_jobs import OLD, ROWS, Beside, assert_whole, until, until_state

SLOW = "CALL envelope.reencrypt('person', 50, pause_ms => 200, part => {}, parts => 2)"
# Each row's last write is in a plain table as well: what it reads in the end is compared with that. The first one
# changes the protected column, the second one takes old envelopes along, the third one adds rows.
SCRIPTS = (
    r"""\set id random(1, 3000)
BEGIN;
UPDATE last SET n = n + 1 WHERE id = :id;
UPDATE person SET email = 'value ' || :id || '+' || (SELECT n FROM last WHERE id = :id) WHERE id = :id;
COMMIT;""",
    r"""\set id random(1, 3000)
BEGIN;
SELECT n FROM last WHERE id = :id FOR UPDATE;
UPDATE person SET seen = seen + 1 WHERE id = :id;
COMMIT;""",
    "INSERT INTO person (id, email) SELECT i, 'value ' || i FROM nextval('more') i;",
)


@pytest.fixture
def command(stack: Stack, crowd: Database) -> Command:
    return Command(stack, crowd.name)


def pgbench(db: Database, folder: Path, *options: str) -> subprocess.Popen[str]:
    """Writers until they are told to end."""
    files: list[str] = []
    for number, text in enumerate(SCRIPTS):
        path = folder / f"{number}.sql"
        path.write_text(text)
        files += ["-f", str(path)]
    return subprocess.Popen(
        [str(db.stack.cluster.bindir / "pgbench"), "-n", "-c", "3", *options, *files, db.name],
        env={**db.stack.environ(), "PGDATABASE": db.name},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_jobs_beside_writers(crowd: Database, tmp_path: Path) -> None:
    """Every row reads as it was written last, and none is under an old version."""
    crowd.sql(
        "CREATE TABLE last AS SELECT i AS id, 0 AS n FROM generate_series(1, 3000) i; CREATE SEQUENCE more START 5001"
    )
    crowd.sql("ALTER TABLE last ADD PRIMARY KEY (id)")
    crowd.sql("ALTER TABLE person_encrypted ADD seen int NOT NULL DEFAULT 0; CALL envelope.refresh('person')")
    writers = pgbench(crowd, tmp_path, "-T", "120", "--max-tries=100")
    try:
        until(crowd, "SELECT sum(n) > 20 FROM last", "writes")
        jobs = [Beside(crowd, f"CALL envelope.reencrypt('person', 100, part => {part}, parts => 2)") for part in (1, 2)]
        assert [job.end() for job in jobs] == [None, None]
        assert writers.poll() is None, "they wrote all the while"
    finally:
        writers.send_signal(signal.SIGINT)
        said, _ = writers.communicate(timeout=60)
    assert "ERROR" not in said
    assert crowd.one(OLD) == 0
    wrong = """SELECT count(*) FROM person JOIN last USING (id)
        WHERE email <> 'value ' || id || CASE n WHEN 0 THEN '' ELSE '+' || n END"""
    assert crowd.one(wrong) == 0
    assert crowd.one("SELECT count(*) FROM person WHERE id > 5000 AND email <> 'value ' || id") == 0
    assert crowd.one("SELECT count(*) FROM person WHERE id <= 3000") == ROWS
    assert crowd.one("SELECT sum(seen) FROM person") > 0
    assert crowd.one("SELECT count(*) FROM envelope.receipts") == 1


def test_an_emergency_sends_other_jobs_away(crowd: Database) -> None:
    others = [Beside(crowd, SLOW.format(part)) for part in (1, 2)]
    for part in (1, 2):
        until_state(crowd, "running", part)
    crowd.sql("SELECT envelope.pause('person')")
    with crowd.connect(autocommit=False) as holder:
        holder.execute("SELECT FROM person_encrypted WHERE id = 1 FOR UPDATE")
        emergency = Beside(crowd, "CALL envelope.rotate_emergency('person', 'test')")
        for other in others:
            error = other.end()
            assert error is not None
            assert error.sqlstate == "57014"
        until(crowd, "SELECT cardinality(pg_blocking_pids(%s)) > 0", "the wait for the row", emergency.pid)
        holder.rollback()
    assert emergency.end() is None
    assert_whole(crowd)
    assert crowd.one("SELECT count(*) FROM envelope.receipts") == 1


def test_an_emergency_begins_with_the_newest_rows(crowd: Database) -> None:
    crowd.sql("CREATE TABLE seen (id int, at int)")
    crowd.sql(f"""CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO public.seen SELECT OLD.id, count(*) FROM public.seen; RETURN NEW; END $$;
        CREATE TRIGGER note BEFORE UPDATE ON person_encrypted FOR EACH ROW WHEN (OLD.id IN (1, {ROWS}))
        EXECUTE FUNCTION note(); ALTER TABLE person_encrypted ENABLE ALWAYS TRIGGER note""")
    crowd.sql("CALL envelope.rotate_emergency('person', 'test')")
    assert crowd.sql("SELECT id FROM seen ORDER BY at") == [(ROWS,), (1,)]


def test_the_command_with_two_jobs(command: Command, crowd: Database, tmp_path: Path) -> None:
    done = command.done("reencrypt", "person", "--jobs", "2", "--batch-size", "200", "--pause", "1")
    assert "re-encryption finished. Its receipt: pg-envelope receipts person" in done.out
    assert f"{ROWS} rows were re-encrypted" in done.err
    assert_whole(crowd)
    assert [(job["part"], job["state"]) for job in command.rows("progress", "person")] == [(1, "done"), (2, "done")]
    assert command.rows("receipts")[0]["rows"] == ROWS
    assert "done" in command.done("progress").out
    receipt = tmp_path / "receipt.json"
    assert "pg-envelope verify-receipt" in command.done("receipts", "person", "--out", receipt).out
    assert set(json.loads(receipt.read_text())) == {"statement", "signature", "public_key"}
    assert json.loads(command.done("verify-receipt", receipt).out)["statement"]["rows"] == ROWS
    receipt.write_text(receipt.read_text().replace(str(ROWS), "1"))
    assert command.run("verify-receipt", receipt).code == 1


def test_pause_resume_and_abort_commands(command: Command, crowd: Database) -> None:
    assert "no job works on person now" in command.run("pause", "person").err
    job = Beside(crowd, "CALL envelope.reencrypt('person', 50, pause_ms => 2000)")
    until_state(crowd, "running")
    assert "1 job told to pause" in command.done("pause", "person").out
    until_state(crowd, "paused")
    assert "paused" in command.done("progress", "person").out
    assert "1 job told to go on" in command.done("resume", "person").out
    assert "1 job told to end" in command.done("abort", "person").out
    assert job.end() is not None
    failed = command.run("receipts", "person", "--out", "unused")
    assert "there is no receipt to export" in failed.err


def test_an_interrupt_ends_all_jobs(command: Command, crowd: Database) -> None:
    process = subprocess.Popen(
        [command.program, "reencrypt", "person", "--jobs", "2", "--batch-size", "50", "--pause", "60000"],
        env=command.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for part in (1, 2):
        until_state(crowd, "running", part)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "To go on, run it again: pg-envelope reencrypt person" in err
    assert "Traceback" not in err
    wait_until(lambda: crowd.sql("SELECT state FROM envelope.progress") == [("failed",), ("failed",)], 60, "both ends")
    command.done("reencrypt", "person")
    assert_whole(crowd)
