"""Walks over a table's blocks for a job, in committed batches, beside writers. The job says what a batch does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.jobs.job import Job
from pg_envelope.backend.jobs.throttle import Throttle
from pg_envelope.backend.tables import heaps
from pg_envelope.backend.tables.heaps import Heap
from pg_envelope.typed import NamedTuple

NOTICE_SECONDS = 1.0
ROWS_PER_BLOCK = 50
# Another session has moved a row to another partition, or dropped the partition. The batch begins again.
BEGINS_AGAIN = ("40001", "42P01")
# Where a few rows move all the time, most tries meet one that moves.
MOST_TRIES = 200
DONE = {
    "reencrypt": "rows re-encrypted",
    "verify": "values verified",
    "search": "rows got search tokens",
    "online": "rows converted",
    "adopt": "rows converted",
}


class Pace(NamedTuple):
    """The pace of a job: rows in a batch, seconds between batches, whether it begins at the table's end, and the WAL
    that a standby may have to replay.
    """

    batch_size: int = 1000
    pause_seconds: float = 0.0
    newest_first: bool = False
    max_lag_mb: int = 64


def pace_of(
    batch_size: int | None, pause_ms: int | None, *, newest_first: bool = False, max_lag_mb: int | None = None
) -> Pace:
    """Returns the pace that a routine's arguments ask for. NULL stands for the default."""
    pace = Pace(1000 if batch_size is None else batch_size, (pause_ms or 0) / 1000, newest_first)
    return pace if max_lag_mb is None else pace._replace(max_lag_mb=max_lag_mb)


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
    if pace.max_lag_mb < 0:
        raise errors.BadInput("max_lag_mb must be 0 or more")


class Position(NamedTuple):
    """The place of a walk: a heap, and the next block in it. Heaps before it in the order of oids are done."""

    heap: int = 0
    block: int = 0


START = Position()


class Blocks(NamedTuple):
    """Blocks of a heap, from `first` to before `last`. SQL reads them from `relation`."""

    heap: int
    relation: str
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
        self._throttle = Throttle(host, job, pace.max_lag_mb)
        self._told = time.monotonic()

    @property
    def batch_size(self) -> int:
        return self._pace.batch_size

    @property
    def piece(self) -> int:
        """The rows that one transaction may lock now. They are fewer than a batch where others wait for them."""
        return self._throttle.size.rows(self._pace.batch_size)

    def look(self) -> None:
        """Looks whether somebody waits for this transaction. It comes before the commit."""
        self._throttle.look()

    def walk(self, act: Act, part: int = 1, parts: int = 1, since: Position = START) -> None:
        """Walks over every block of a part once, from a position on.

        A part is one of every `parts` batches, because rows seldom fill a table evenly. Each batch is a transaction of
        its own, in which the job writes its progress.
        """
        found = heaps.find(self._host, self._key["base"])
        self._host.commit()
        batches, done = self._batches(found, part, parts, since), _before(found, since)
        total = done + sum(batch.last - batch.first for batch in batches)
        first_pass = not self._job.total
        for piece in (piece for batch in batches for piece in self._cut(batch)):
            self._job.rows += self._done(act, piece)
            self._throttle.look()
            done += piece.last - piece.first
            if first_pass:
                self._job.blocks, self._job.total = done, total
            self._job.commit()
            self._tell(done, total)
            self.rest()

    def rest(self) -> None:
        """Waits between two batches: for the pause of the pace, while others pause the job, and for standbys. Raises
        Aborted.
        """
        self._job.rest(self._pace.pause_seconds)
        self._throttle.wait()

    def _cut(self, batch: Blocks) -> Iterator[Blocks]:
        for first, last in self._throttle.size.cut(batch.first, batch.last):
            yield batch._replace(first=first, last=last)

    def _done(self, act: Act, batch: Blocks) -> int:
        """Carries out a batch, again where another session has moved a row. A partition may be gone by then."""
        for left in reversed(range(MOST_TRIES)):
            heap = heaps.one(self._host, self._key["base"], batch.heap)
            if heap is None:
                return 0
            quiet(self._host)
            try:
                return act(batch._replace(relation=heap.sql))
            except Exception as error:
                if not left or getattr(error, "sqlstate", None) not in BEGINS_AGAIN:
                    raise
                self._host.rollback()
        return 0

    def _batches(self, found: list[Heap], part: int, parts: int, since: Position) -> list[Blocks]:
        batches = [batch for heap in found if heap.oid >= since.heap for batch in self._of_heap(heap, since)]
        mine = batches[part - 1 :: parts]
        return mine[::-1] if self._pace.newest_first else mine

    def _of_heap(self, heap: Heap, since: Position) -> Iterator[Blocks]:
        """Yields batches of blocks that hold about batch_size rows."""
        per_block = heap.rows / heap.blocks if heap.rows > 0 and heap.blocks else ROWS_PER_BLOCK
        step = max(1, int(self._pace.batch_size / max(per_block, 1)))
        for first in range(since.block if heap.oid == since.heap else 0, heap.blocks, step):
            yield Blocks(heap.oid, heap.sql, first, min(first + step, heap.blocks))

    def _tell(self, done: int, total: int) -> None:
        if time.monotonic() - self._told > NOTICE_SECONDS:
            what = self._job.what
            self._host.notice(f"{what}: {done} of {total} blocks, {self._job.rows} {DONE[what]}")
            self._told = time.monotonic()


def _before(found: list[Heap], since: Position) -> int:
    """Returns how many blocks a walk has done that goes on at a position."""
    return sum(heap.blocks for heap in found if heap.oid < since.heap) + since.block


def quiet(host: Host) -> None:
    """Keeps user triggers from firing in this transaction, because no value changes."""
    host.setting("SET LOCAL session_replication_role = replica")
