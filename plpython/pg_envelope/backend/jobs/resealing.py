"""Brings old values to the newest key, until none is left that opens. Values that do not open stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.jobs.faulty import despite
from pg_envelope.backend.jobs.job import Job
from pg_envelope.backend.jobs.walker import Blocks, Walker, quiet
from pg_envelope.backend.sqltext import commas, ident
from pg_envelope.backend.tables import whole
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.generate.expressions import is_null
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.typed import Protocol

# After so many tries in a row that leave as many rows to do, a trigger keeps old values, or rows change at each try.
IDLE_PASSES = 20
# So many batches are found by a look at the whole table for each of them, in the place of a walk.
FEW_BATCHES = 10
# While the job waits for a row that another session has locked, it looks for orders this often.
LOCK_SLICE = "SET LOCAL lock_timeout = '500ms'"
LOCK_NOT_AVAILABLE = "55P03"
# The row that was to be locked has moved to another partition meanwhile.
MOVED = "40001"


class Work(Protocol):
    """Says which rows of `t` to write, and how.

    `any` and `movable` are conditions. `values` has expressions by column; NULL keeps the stored value. `emptied` has
    the columns that become NULL, each by the column whose new value takes its place.
    """

    @property
    def any(self) -> str:
        """The condition for a row that is to be written. It opens no value."""

    @property
    def movable(self) -> str:
        """The condition for such a row whose value opens."""

    @property
    def values(self) -> dict[str, str]: ...

    @property
    def emptied(self) -> dict[str, str]: ...


class Resealing:
    """Writes rows of one table anew, for one job. Every statement that meets the owner's code runs as the owner.

    `work` is told whether to be careful of bytes that the server cannot read.
    """

    def __init__(
        self,
        host: Host,
        owner: AsOwner,
        layout: Layout,
        key: Row,
        job: Job,
        walker: Walker,
        work: Callable[[bool], Work],
        ready: Callable[[str, str], None] | None = None,
    ) -> None:
        """`ready` is called before rows are locked, with the relation that has them, and the condition that finds them.
        It commits.
        """
        self._host, self._owner, self._layout, self._key = host, owner, layout, key
        self._job, self._walker, self._work, self._ready = job, walker, work, ready

    def walk(self) -> None:
        """Walks once over this job's part."""
        self._walker.walk(self._batch, self._job.part, self._job.parts)

    def clean(self) -> None:
        """Repeats until no old envelope is left that opens. It takes the rows that others have locked when no other
        rows are left.
        """
        if self._count(movable=False):
            self._walker.walk(self._batch)
        before, idle = None, 0
        while old := self._count(movable=True):
            if old != before:
                idle = 0
                self._again(old)
            else:
                idle += 1
                self._one()
            before = old
            if idle > IDLE_PASSES:
                raise errors.EnvelopeError(
                    f"{old} rows of {self._layout.base} with old values cannot be updated",
                    hint="Does a trigger with ENABLE ALWAYS or ENABLE REPLICA keep them as they are?",
                )

    def _count(self, movable: bool) -> int:
        """Returns the number of rows with old values; with `movable`, only of those with old values that open.

        It counts as the owner, who could have put a view in the table's place.
        """
        quiet(self._host)
        whole.refuse_hidden(self._host, self._key, self._layout, self._job.what)

        def count(careful: bool) -> int:
            old = self._work(careful)
            condition = old.movable if movable else old.any
            return self._owner.count(f"SELECT count(*) AS found FROM {self._layout.base} t WHERE {condition}")

        found = despite(count)
        # The snapshot must not last over the next wait, because it would hold up VACUUM.
        self._host.commit()
        return found

    def _batch(self, batch: Blocks) -> int:
        """Reseals the rows of some blocks, and waits for no lock: a session that holds some and waits for others meets
        deadlocks.
        """
        if self._ready:
            self._ready(batch.relation, f"{batch.condition()} AND {self._work(False).any}")
            quiet(self._host)

        def reseal(careful: bool) -> int:
            where = f"{batch.condition()} AND {self._work(careful).any}"
            return self._owner.run(self._reseal(batch.relation, f"{where} FOR NO KEY UPDATE SKIP LOCKED", careful))

        return despite(reseal)

    def _again(self, old: int) -> None:
        """Walks once more, or takes the rows of a few batches where they are by now.

        Writers can move rows faster than a walk comes to them, and beyond its last block.
        """
        # The keys of tenants or subjects are made ready at once for all these rows.
        batches = 1 if self._ready else FEW_BATCHES
        if old > batches * self._walker.batch_size:
            self._walker.walk(self._batch)
            return
        if self._ready:
            self._ready(self._layout.base, self._work(False).any)
        if self._tried(partial(self._anywhere, f"LIMIT {self._walker.piece} FOR NO KEY UPDATE SKIP LOCKED")):
            self._walker.look()
            self._job.commit()
        else:
            self._host.rollback()
        self._walker.rest()

    def _one(self) -> None:
        """Reseals one old row, after a wait for the transaction that holds it. It holds no other lock meanwhile."""
        while not self._tried(partial(self._anywhere, "LIMIT 1 FOR NO KEY UPDATE")):
            self._host.rollback()
            self._job.rest(0)
        self._job.commit()
        self._walker.rest()

    def _tried(self, reseal: Callable[[bool], int]) -> bool:
        """Returns False when a slice of the wait is over, or a row is in another partition by now."""
        quiet(self._host)
        self._host.setting(LOCK_SLICE)
        try:
            self._job.rows += despite(reseal)
        except Exception as error:
            if getattr(error, "sqlstate", None) in (LOCK_NOT_AVAILABLE, MOVED):
                return False
            raise
        return True

    def _anywhere(self, which: str, careful: bool) -> int:
        """Reseals rows wherever in the table they are."""
        where = f"{self._work(careful).movable} {which}"
        # Rows of several partitions can have the same ctid.
        return self._owner.run(self._reseal(self._layout.base, where, careful, " AND t.tableoid = old.heap"))

    def _reseal(self, relation: str, which: str, careful: bool, also: str = "") -> str:
        """Returns the statement that reseals the rows of a relation that a condition finds. It writes no row in which
        every value stays.

        A value that stays is not compared with itself, because the server would have to read it.
        """
        work = self._work(careful)
        made, emptied = work.values, work.emptied
        columns = {name: f"old.value_{number}" for number, name in enumerate(made)}
        sealed = commas(f"{value} AS value_{number}" for number, value in enumerate(made.values()))
        values = [f"{ident(name)} = coalesce({value}, t.{ident(name)})" for name, value in columns.items()]
        values += [
            f"{ident(gone)} = CASE WHEN {is_null(columns[name])} THEN t.{ident(gone)} END"
            for name, gone in emptied.items()
        ]
        changed = " OR ".join(f"NOT ({is_null(value)})" for value in columns.values())
        return (
            f"WITH old AS MATERIALIZED (SELECT t.tableoid AS heap, t.ctid AS place, {sealed} FROM {relation} t"
            f" WHERE {which}) UPDATE {relation} t SET {commas(values)} FROM old"
            f" WHERE t.ctid = old.place{also} AND ({changed})"
        )
