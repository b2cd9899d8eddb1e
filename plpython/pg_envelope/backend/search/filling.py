"""Makes tokens for rows that are older than their search column, in committed batches beside writers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pg_envelope.backend.host import Host
from pg_envelope.backend.jobs.faulty import despite, fault
from pg_envelope.backend.jobs.isolation import read_committed
from pg_envelope.backend.jobs.job import Job
from pg_envelope.backend.jobs.older import wait_for_readers
from pg_envelope.backend.jobs.resealing import Resealing
from pg_envelope.backend.jobs.walker import Pace, Walker
from pg_envelope.backend.search import token_indexes
from pg_envelope.backend.search.column import SearchColumn
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables import catalog, inspect, whole
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.generate.expressions import clear_value, either_as_role, is_null
from pg_envelope.backend.tables.generate.search import of_value_as_role
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.records import dataclass


@dataclass(frozen=True)
class MissingTokens:
    """Finds rows of `t` that have a value and lack its token, in some search columns. See resealing.Work."""

    layout: Layout
    searches: tuple[SearchColumn, ...]
    careful: bool

    @property
    def any(self) -> str:
        return f"({' OR '.join(map(self._lacks, self.searches))})"

    @property
    def movable(self) -> str:
        return f"({' OR '.join(map(self._can_have, self.searches))})"

    @property
    def values(self) -> dict[str, str]:
        return {search.name: self._token(search) for search in self.searches}

    @property
    def emptied(self) -> dict[str, str]:
        return {}

    def _can_have(self, search: SearchColumn) -> str:
        return f"CASE WHEN {self._lacks(search)} THEN {self._opens(search)} ELSE false END"

    def _opens(self, search: SearchColumn) -> str:
        return f"{fault(self.layout, search.source, careful=self.careful)} IS NULL"

    def _token(self, search: SearchColumn) -> str:
        protected = self.layout.protected[search.source]
        value = either_as_role(self.layout, protected, "t")
        token = of_value_as_role(self.layout, search, f"({value})")
        return f"CASE WHEN {self._lacks(search)} THEN CASE WHEN {self._opens(search)} THEN {token} END END"

    def _lacks(self, search: SearchColumn) -> str:
        there = [f"t.{ident(search.source)} IS NOT NULL"]
        source = self.layout.protected[search.source]
        if self.layout.writes_clear and source.in_rollout:
            there.append(f"NOT ({is_null(clear_value(source, 't'))})")
        return f"(({' OR '.join(there)}) AND t.{ident(search.name)} IS NULL)"


def fill(host: Host, oid: int, pace: Pace, search_uuid: str) -> None:
    """Makes tokens and indexes for the columns of a search key that the view does not show yet. Commits as it goes.

    Afterwards no transaction sees a row without its token, but for values that do not open. A roll-out makes the
    indexes by itself: those of the table's own are there meanwhile.
    """
    key = catalog.key_of(host, oid)
    base = inspect.inspect(host, key["base"])
    layout = catalog.layout_of(host, key, base)
    whole.refuse_missing(host, key, layout)
    owner = AsOwner(host, base.owner_oid)
    searches = tuple(s for s in layout.searches.values() if s.search_uuid == search_uuid and not s.is_filled)
    missing = partial(MissingTokens, layout, searches)
    with read_committed(host):
        job = Job(host, layout.key_uuid, what="search")
        walker = Walker(host, key, job, pace)
        job.start(take_over=False)
        with job.running():
            Resealing(host, owner, layout, key, job, walker, missing).clean()
            wait_for_readers(host, job, "the last tokens")
            if not layout.rollout:
                token_indexes.make(host, base, layout, searches)
            job.commit()
            job.faults = _left(owner, layout, missing)
            job.complete()
    _tell(host, layout, job)


def _left(owner: AsOwner, layout: Layout, missing: Callable[[bool], MissingTokens]) -> int:
    def count(careful: bool) -> int:
        return owner.count(f"SELECT count(*) AS found FROM {layout.base} t WHERE {missing(careful).any}")

    return despite(count)


def _tell(host: Host, layout: Layout, job: Job) -> None:
    host.notice(f"search: {job.rows} rows of {layout.view} got search tokens")
    if job.faults:
        host.warning(
            f"search: {job.faults} rows of {layout.view} got none, for their values do not open",
            hint="CALL envelope.verify(...) lists them. What is written anew gets its token.",
        )
