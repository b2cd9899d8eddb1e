"""Passes over a table's blocks: old envelopes to the newest key version, in committed batches, beside writers."""

from __future__ import annotations

import time
from typing import NamedTuple

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.jobs.job import Job
from pg_envelope.backend.jobs.stale import stale
from pg_envelope.backend.sqltext import commas, ident
from pg_envelope.backend.tables import generate
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.owner import AsOwner

NOTICE_SECONDS = 1.0
ROWS_PER_BLOCK = 50
# In a row, without any row less to do: a trigger keeps old values, or each row changes under each try.
IDLE_PASSES = 20
# While it waits for a row that another session has locked, it looks for orders this often.
LOCK_SLICE = "SET LOCAL lock_timeout = '500ms'"
LOCK_NOT_AVAILABLE = "55P03"
SIZE = """
SELECT pg_relation_size($1::regclass) / current_setting('block_size')::bigint AS blocks, c.reltuples AS rows
FROM pg_catalog.pg_class c WHERE c.oid = $1"""
HIDDEN = """
SELECT c.oid FROM envelope_private.key k JOIN pg_catalog.pg_class c ON c.oid = k.base
JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
WHERE k.key_uuid = $1 AND c.relrowsecurity AND c.relforcerowsecurity AND NOT (r.rolsuper OR r.rolbypassrls)"""


class Pace(NamedTuple):
    """How a job walks: rows in a batch, seconds between batches, from which end."""

    batch_size: int = 1000
    pause_seconds: float = 0.0
    newest_first: bool = False


class Blocks(NamedTuple):
    """Blocks of a table, from `first` to before `last`."""

    first: int
    last: int

    def condition(self) -> str:
        """For `t.ctid`, which PostgreSQL then reads as a range of blocks."""
        return f"t.ctid >= '({self.first},0)' AND t.ctid < '({self.last},0)'"


class Walker:
    """Walks over one table for one job. Every statement that meets the owner's code runs as the owner."""

    def __init__(self, host: Host, owner: AsOwner, layout: Layout, key: Row, job: Job, pace: Pace) -> None:
        self._host, self._owner, self._layout, self._key = host, owner, layout, key
        self._job, self._pace = job, pace
        self._told = time.monotonic()

    def walk(self) -> None:
        """Once over this job's part: one of every `parts` batches, for rows seldom fill a table evenly."""
        self._pass(self._job.part, self._job.parts)

    def clean(self) -> None:
        """Until no envelope is old. Rows that others have locked are passed over as long as there are more."""
        before, idle = None, 0
        while old := self._count_old():
            if old != before:
                idle = 0
                self._pass()
            else:
                idle += 1
                self._one()
            before = old
            if idle > IDLE_PASSES:
                raise errors.EnvelopeError(
                    f"{old} rows of {self._layout.base} with old values cannot be updated",
                    hint="Does a trigger with ENABLE ALWAYS or ENABLE REPLICA keep them as they are?",
                )

    def _count_old(self) -> int:
        """As the owner, who could have put a view of that name in the table's place since the last commit."""
        quiet(self._host)
        if self._host.row(HIDDEN, ["uuid"], [self._key["key_uuid"]]):
            raise errors.Unsupported(
                f"row-level security with FORCE may hide rows of {self._layout.base} from reencrypt(),"
                " which runs as its owner",
                hint=f"ALTER TABLE {self._layout.base} NO FORCE ROW LEVEL SECURITY while reencrypt() runs.",
            )
        found = self._owner.count(f"SELECT count(*) AS found FROM {self._layout.base} t WHERE {self._old()}")
        # Not over the next wait: a count of a large table takes a while, and its snapshot holds up VACUUM.
        self._host.commit()
        return found

    def _pass(self, part: int = 1, parts: int = 1) -> None:
        """Every block of a part once, without a wait for locks: who holds some and waits for others meets deadlocks."""
        batches, done = self._batches(part, parts), 0
        total = sum(batch.last - batch.first for batch in batches)
        first_pass = not self._job.total
        for batch in batches:
            quiet(self._host)
            where = f"{batch.condition()} AND {self._old()}"
            self._job.rows += self._owner.run(self._reseal(f"{where} FOR NO KEY UPDATE SKIP LOCKED"))
            done += batch.last - batch.first
            if first_pass:
                self._job.blocks, self._job.total = done, total
            self._job.commit()
            self._tell(done, total)
            self._job.rest(self._pace.pause_seconds)

    def _batches(self, part: int, parts: int) -> list[Blocks]:
        blocks, step = self._size()
        found = [Blocks(first, min(first + step, blocks)) for first in range((part - 1) * step, blocks, parts * step)]
        return found[::-1] if self._pace.newest_first else found

    def _one(self) -> None:
        """One old row, after a wait for whoever holds it; no other lock is held meanwhile."""
        while not self._tried():
            self._host.rollback()
            self._job.rest(0)
        self._job.commit()
        self._job.rest(self._pace.pause_seconds)

    def _tried(self) -> bool:
        """False when a slice of the wait is over."""
        quiet(self._host)
        self._host.setting(LOCK_SLICE)
        try:
            self._job.rows += self._owner.run(self._reseal(f"{self._old()} LIMIT 1 FOR NO KEY UPDATE"))
        except Exception as error:
            if getattr(error, "sqlstate", None) == LOCK_NOT_AVAILABLE:
                return False
            raise
        return True

    def _old(self) -> str:
        return f"({stale(self._host, self._layout, self._key)})"

    def _reseal(self, which: str) -> str:
        values = commas(f"{ident(name)} = {generate.resealed(self._layout, name)}" for name in self._layout.protected)
        return (
            f"WITH old AS MATERIALIZED (SELECT t.ctid FROM {self._layout.base} t WHERE {which})"
            f" UPDATE {self._layout.base} t SET {values} FROM old WHERE t.ctid = old.ctid"
        )

    def _size(self) -> tuple[int, int]:
        """The table's blocks, and how many of them hold about batch_size rows."""
        row = self._host.row(SIZE, ["oid"], [self._key["base"]])
        self._host.commit()
        assert row is not None
        per_block = row["rows"] / row["blocks"] if row["rows"] > 0 and row["blocks"] else ROWS_PER_BLOCK
        return int(row["blocks"]), max(1, int(self._pace.batch_size / max(per_block, 1)))

    def _tell(self, done: int, total: int) -> None:
        if time.monotonic() - self._told > NOTICE_SECONDS:
            self._host.notice(f"reencrypt: {done} of {total} blocks, {self._job.rows} rows re-encrypted")
            self._told = time.monotonic()


def quiet(host: Host) -> None:
    """User triggers do not fire in this transaction, for no value changes."""
    host.setting("SET LOCAL session_replication_role = replica")
