"""Slows a job down while standbys are behind, and makes its batches smaller where others wait for their rows."""

from __future__ import annotations

import time
from collections.abc import Iterator

from pg_envelope.backend.host import Host
from pg_envelope.backend.jobs.job import SLICE_SECONDS, Job

# After one batch. A standby that replays late on purpose slows the job down, and does not stop it.
MOST_SECONDS = 10.0
NOTICE_SECONDS = 10.0
# Each time that somebody waited, a batch is cut into twice as many pieces, up to 2 to the power of this.
MOST_HALVINGS = 6
# After so many pieces for which nobody waited, they are twice as large again.
QUIET_PIECES = 10
BEHIND = """
SELECT string_agg(coalesce(nullif(application_name, ''), 'pid ' || pid), ', ' ORDER BY application_name) AS names
FROM pg_catalog.pg_stat_replication
WHERE state IN ('streaming', 'catchup') AND pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) > $1::numeric * 1048576"""
# A statement of PL/Python is a subtransaction. Its end wakes up those that wait for its rows. Until the processor runs
# them, they wait for nobody, and each still holds its place in the queue for a row. Then they wait again: for this
# transaction. That can happen between the two questions, so the second one also finds those that the first would find.
WAITED_FOR = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity
        WHERE wait_event_type = 'Lock' AND pg_backend_pid() = ANY (pg_blocking_pids(pid)))
    OR EXISTS (SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_database d ON d.oid = l.database
        CROSS JOIN LATERAL pg_blocking_pids(l.pid) AS waits_for
        WHERE d.datname = current_database() AND l.locktype = 'tuple' AND l.granted AND l.pid <> pg_backend_pid()
            AND (waits_for = '{}' OR pg_backend_pid() = ANY (waits_for))) AS found"""


class BatchSize:
    """How many pieces a batch is cut into."""

    def __init__(self) -> None:
        self._halvings = self._quiet = 0

    @property
    def is_smaller(self) -> bool:
        return self._halvings > 0

    def note(self, *, waited: bool) -> None:
        """Notes whether somebody waited for a piece."""
        self._quiet = 0 if waited else self._quiet + 1
        if waited:
            self._halvings = min(self._halvings + 1, MOST_HALVINGS)
        elif self._quiet >= QUIET_PIECES:
            self._halvings, self._quiet = max(self._halvings - 1, 0), 0

    def rows(self, batch: int) -> int:
        """Returns how many of a batch's rows are in a piece."""
        return max(1, batch >> self._halvings)

    def cut(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Cuts a range of blocks into pieces. Each is a transaction of its own."""
        step = max(1, -(-(last - first) >> self._halvings))
        for start in range(first, last, step):
            yield start, min(start + step, last)


class Throttle:
    """Serves one job. `max_lag_mb` is the WAL that a standby may have to replay; 0: any."""

    def __init__(self, host: Host, job: Job, max_lag_mb: int) -> None:
        self._host, self._job, self._max_lag_mb = host, job, max_lag_mb
        self.size = BatchSize()
        self._told = -NOTICE_SECONDS

    def look(self) -> None:
        """Looks whether somebody waits for this transaction. It comes before the commit."""
        (row,) = self._host.rows(WAITED_FOR)
        self.size.note(waited=row["found"])
        self._job.held_up_by = "lock waits of others" if self.size.is_smaller else None

    def wait(self) -> None:
        """Waits for standbys, between two transactions. Raises Aborted."""
        began, before = time.monotonic(), self._job.held_up_by
        while (behind := self._behind()) and time.monotonic() - began < MOST_SECONDS:
            self._tell(behind)
            self._job.rest(SLICE_SECONDS)
        if self._job.held_up_by != before:
            self._job.held_up_by = before
            self._job.commit()

    def _behind(self) -> str | None:
        if not self._max_lag_mb:
            return None
        row = self._host.row(BEHIND, ["int4"], [self._max_lag_mb])
        # The snapshot must not last over the wait.
        self._host.commit()
        return row["names"] if row else None

    def _tell(self, behind: str) -> None:
        what = f"standbys that are behind: {behind}"
        if self._job.held_up_by != what:
            self._job.held_up_by = what
            self._job.commit()
        if time.monotonic() - self._told >= NOTICE_SECONDS:
            self._told = time.monotonic()
            self._host.notice(
                f"{self._job.what}: waits for {what}",
                hint=f"They have more than {self._max_lag_mb} MB of WAL to replay.",
            )
