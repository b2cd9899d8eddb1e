"""Walks over a table's blocks for a job, in committed batches, beside writers. The job says what a batch does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.jobs.job import Job

NOTICE_SECONDS = 1.0
ROWS_PER_BLOCK = 50
SIZE = """
SELECT pg_relation_size($1::regclass) / current_setting('block_size')::bigint AS blocks, c.reltuples AS rows
FROM pg_catalog.pg_class c WHERE c.oid = $1"""
DONE = {
    "reencrypt": "rows re-encrypted",
    "verify": "values verified",
    "search": "rows got search tokens",
    "online": "rows converted",
    "adopt": "rows converted",
}


class Pace(NamedTuple):
    """The pace of a job: rows in a batch, seconds between batches, and whether it begins at the table's end."""

    batch_size: int = 1000
    pause_seconds: float = 0.0
    newest_first: bool = False


class Share(NamedTuple):
    """One of several parts of a table, which sessions work on side by side."""

    part: int = 1
    parts: int = 1


MOST_PARTS = 1024


def check_share(share: Share) -> None:
    """Raises BadInput."""
    if not 1 <= share.part <= share.parts <= MOST_PARTS:
        raise errors.BadInput(f"part must be 1 or more and at most parts, parts at most {MOST_PARTS}")


def check(pace: Pace) -> None:
    """Raises BadInput."""
    if pace.batch_size < 1:
        raise errors.BadInput("batch_size must be 1 or more")
    if pace.pause_seconds < 0:
        raise errors.BadInput("pause_ms must be 0 or more")


class Blocks(NamedTuple):
    """Blocks of a table, from `first` to before `last`."""

    first: int
    last: int

    def condition(self) -> str:
        """Returns a condition on `t.ctid`, which PostgreSQL reads as a range of blocks."""
        return f"t.ctid >= '({self.first},0)' AND t.ctid < '({self.last},0)'"


# Handles a batch, and returns how many rows or values that were.
Act = Callable[[Blocks], int]


class Walker:
    """Walks over one table for one job."""

    def __init__(self, host: Host, key: Row, job: Job, pace: Pace) -> None:
        self._host, self._key, self._job, self._pace = host, key, job, pace
        self._told = time.monotonic()

    def walk(self, act: Act, part: int = 1, parts: int = 1, first: int = 0) -> None:
        """Walks over every block of a part once, from block `first` on.

        A part is one of every `parts` batches, because rows seldom fill a table evenly. Each batch is a transaction of
        its own, in which the job writes its progress.
        """
        batches, done = self._batches(part, parts, first), first
        total = first + sum(batch.last - batch.first for batch in batches)
        first_pass = not self._job.total
        for batch in batches:
            quiet(self._host)
            self._job.rows += act(batch)
            done += batch.last - batch.first
            if first_pass:
                self._job.blocks, self._job.total = done, total
            self._job.commit()
            self._tell(done, total)
            self.rest()

    def rest(self) -> None:
        """Waits between two batches: for the pause of the pace, and while others pause the job. Raises Aborted."""
        self._job.rest(self._pace.pause_seconds)

    def _batches(self, part: int, parts: int, start: int) -> list[Blocks]:
        blocks, step = self._size()
        firsts = range(start + (part - 1) * step, blocks, parts * step)
        found = [Blocks(first, min(first + step, blocks)) for first in firsts]
        return found[::-1] if self._pace.newest_first else found

    def _size(self) -> tuple[int, int]:
        """Returns the table's blocks, and how many of them hold about batch_size rows."""
        row = self._host.row(SIZE, ["oid"], [self._key["base"]])
        self._host.commit()
        assert row is not None
        per_block = row["rows"] / row["blocks"] if row["rows"] > 0 and row["blocks"] else ROWS_PER_BLOCK
        return int(row["blocks"]), max(1, int(self._pace.batch_size / max(per_block, 1)))

    def _tell(self, done: int, total: int) -> None:
        if time.monotonic() - self._told > NOTICE_SECONDS:
            what = self._job.what
            self._host.notice(f"{what}: {done} of {total} blocks, {self._job.rows} {DONE[what]}")
            self._told = time.monotonic()


def quiet(host: Host) -> None:
    """Keeps user triggers from firing in this transaction, because no value changes."""
    host.setting("SET LOCAL session_replication_role = replica")
