"""Keeps one worker's row in envelope_private.job, writes it with each batch, and reads orders of other sessions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from pg_envelope import errors
from pg_envelope.backend.host import Host

# How long a paused or throttled worker waits before it looks for a cancel and for orders.
SLICE_SECONDS = 0.1

# Each start, and each claim of the end, sees what the one before it left. A batch waits only for these few statements.
ONE_BY_ONE = "LOCK TABLE envelope_private.job IN SHARE ROW EXCLUSIVE MODE"
LIVE = """
SELECT job_id, pid FROM envelope_private.live_job
WHERE key_uuid = $1 AND what = $2 AND part = $3 AND parts = $4 AND pid <> pg_backend_pid()"""
# A job with another number of parts, or of a run that is over, counts only while it works. A job's own row always
# counts.
CLEAR = """
DELETE FROM envelope_private.job j
WHERE key_uuid = $1 AND what = $2 AND ((part = $3 AND parts = $4)
    OR ((parts <> $4 OR complete) AND job_id NOT IN (SELECT job_id FROM envelope_private.live_job)))"""
CLEAR_ORDERS = """
DELETE FROM envelope_private.job_order o
WHERE NOT EXISTS (SELECT FROM envelope_private.job j WHERE j.job_id = o.job_id)"""
START = """
INSERT INTO envelope_private.job (key_uuid, what, part, parts, pid, backend_start)
VALUES ($1, $2, $3, $4, pg_backend_pid(),
    (SELECT backend_start FROM pg_catalog.pg_stat_activity WHERE pid = pg_backend_pid()))
RETURNING job_id"""
ABORT_OTHERS = """
INSERT INTO envelope_private.job_order (job_id, wanted)
SELECT job_id, 'abort' FROM envelope_private.live_job WHERE key_uuid = $1 AND what = $2 AND pid <> pg_backend_pid()
ON CONFLICT (job_id) DO UPDATE SET wanted = excluded.wanted"""
WRITE = """
UPDATE envelope_private.job SET state = $2, blocks_done = $3, blocks_total = $4, rows_done = $5, seconds = $6,
    faults = $7, held_up_by = $8, updated_at = clock_timestamp()
WHERE job_id = $1 RETURNING job_id"""
WANTED = "SELECT wanted FROM envelope_private.job_order WHERE job_id = $1"
OTHERS_DONE = """
SELECT count(*) AS found FROM envelope_private.job
WHERE key_uuid = $1 AND what = $2 AND parts = $4 AND part <> $3 AND state = 'done'"""
COMPLETE = """
UPDATE envelope_private.job SET complete = true
WHERE key_uuid = $1 AND what = $2 AND parts = $3 AND state = 'done'"""
ROWS = """
SELECT coalesce(sum(rows_done), 0)::bigint AS rows FROM envelope_private.job
WHERE key_uuid = $1 AND what = $2 AND parts = $3"""
VERBS = {
    "reencrypt": "re-encrypts",
    "verify": "verifies",
    "search": "makes search tokens of",
    "online": "converts",
    "adopt": "converts",
}
NOUNS = {
    "reencrypt": "re-encryption",
    "verify": "verification",
    "search": "making of search tokens",
    "online": "roll-out",
    "adopt": "conversion",
}


class Running(errors.NotConfigured):
    sqlstate = "55006"


class Aborted(errors.EnvelopeError):
    sqlstate = "57014"


class Job:
    """A share of a table, and the progress in it. The next write of the row stores `rows`, `faults`, `blocks`, `total`
    and `held_up_by`, what slows it down in words for people.
    """

    def __init__(self, host: Host, key_uuid: str, part: int = 1, parts: int = 1, what: str = "reencrypt") -> None:
        self._host, self._key_uuid = host, key_uuid
        self.what, self.part, self.parts = what, part, parts
        self.rows = self.faults = self.blocks = self.total = 0
        self.held_up_by: str | None = None
        self._id = ""
        self._seconds = 0.0
        self._since: float | None = time.monotonic()

    def start(self, take_over: bool) -> None:
        """Makes the row and commits it. Raises Running where another session works on this part.

        `take_over` makes all other sessions stop their work on the table.
        """
        self._host.run(ONE_BY_ONE)
        if take_over:
            self._host.rows(ABORT_OTHERS, ["uuid", "text"], [self._key_uuid, self.what])
        elif live := self._host.row(LIVE, *self._mine()):
            raise Running(
                f"another session {VERBS[self.what]} this part of the table",
                detail=f"pid {live['pid']}, part {self.part} of {self.parts}",
                hint="envelope.progress shows it; SELECT envelope.abort(...) ends it.",
            )
        self._host.rows(CLEAR, *self._mine())
        self._host.rows(CLEAR_ORDERS)
        row = self._host.row(START, *self._mine())
        assert row is not None
        self._id = str(row["job_id"])
        self._host.commit()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Writes into the row how the job ended, when an error ends it early.

        After a kill the row still says `running`. Readers see that its session is gone.
        """
        try:
            yield
        except Exception as error:
            self._host.rollback()
            self._write("aborted" if isinstance(error, Aborted) else "failed")
            self._host.commit()
            raise

    def commit(self) -> None:
        """Writes the progress in the batch's own transaction. Raises Aborted when another session took over."""
        self._keep("running")
        self._host.commit()

    def rest(self, seconds: float) -> None:
        """Waits for so many seconds, and for as long as the job is paused, without locks and without a snapshot. Raises
        Aborted.
        """
        until = time.monotonic() + seconds
        paused = False
        while True:
            wanted = self._wanted()
            if wanted == "abort":
                noun = NOUNS[self.what]
                raise Aborted(f"another session aborted this {noun}", hint="Calling it again goes on from there.")
            if (wanted == "pause") != paused:
                paused = not paused
                self._pause(paused)
            left = until - time.monotonic()
            if not paused and left <= 0:
                return
            time.sleep(SLICE_SECONDS if paused else min(SLICE_SECONDS, left))

    def done(self) -> bool:
        """Ends this job's share. Returns True for the last of all parts, which goes on with the whole table and stays
        `running`.
        """
        self._host.run(ONE_BY_ONE)
        row = self._host.row(OTHERS_DONE, *self._mine())
        last = row is not None and row["found"] == self.parts - 1
        self._keep("running" if last else "done")
        self._host.commit()
        return last

    def complete(self) -> int:
        """Ends the job of the whole table. Returns how many rows all parts have re-encrypted."""
        self._keep("done")
        whole = ["uuid", "text", "int4"], [self._key_uuid, self.what, self.parts]
        self._host.rows(COMPLETE, *whole)
        row = self._host.row(ROWS, *whole)
        self._host.commit()
        return int(row["rows"]) if row else 0

    def _mine(self) -> tuple[list[str], list[object]]:
        return ["uuid", "text", "int4", "int4"], [self._key_uuid, self.what, self.part, self.parts]

    def _wanted(self) -> str:
        """Returns the order for this job. Leaves a new transaction in which nothing has run yet: a statement would
        leave a snapshot.
        """
        row = self._host.row(WANTED, ["uuid"], [self._id])
        self._host.commit()
        return str(row["wanted"]) if row else "run"

    def _pause(self, paused: bool) -> None:
        """Stops the clock of the rate during a pause."""
        self._seconds, self._since = self._worked(), None if paused else time.monotonic()
        self._keep("paused" if paused else "running")
        self._host.commit()

    def _worked(self) -> float:
        return self._seconds + (time.monotonic() - self._since if self._since is not None else 0.0)

    def _keep(self, state: str) -> None:
        if not self._write(state):
            raise Aborted(f"another session took this {NOUNS[self.what]} over", hint="envelope.progress shows which.")

    def _write(self, state: str) -> bool:
        types = ["uuid", "text", "int8", "int8", "int8", "float8", "int8", "text"]
        held_up_by = self.held_up_by if state == "running" else None
        told = [self._id, state, self.blocks, self.total, self.rows, self._worked(), self.faults, held_up_by]
        return bool(self._host.rows(WRITE, types, told))
