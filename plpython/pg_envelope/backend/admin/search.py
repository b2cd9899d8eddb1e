"""Search columns, and advice about them."""

from __future__ import annotations

import json

from pg_envelope.backend import caller
from pg_envelope.backend.admin.tools import AdminTools
from pg_envelope.backend.host import Row
from pg_envelope.backend.jobs.walker import pace_of
from pg_envelope.backend.search.options import parse_one
from pg_envelope.backend.tables.inspect import inspect


class SearchRoutines:
    """Each routine imports what it alone needs."""

    def __init__(self, tools: AdminTools) -> None:
        self._tools, self._host = tools, tools.host
        self.search_advice = tools.plain(self._search_advice)
        self.slow_reads = tools.plain(self._slow_reads)
        self.grant_search = tools.plain(self._grant_search)
        self.add_search = tools.plain(tools.alone(self._add_search))
        self.drop_search = tools.plain(tools.alone(self._drop_search))
        self.rotate_search = tools.plain(tools.alone(self._rotate_search))

    def _search_advice(
        self, rel: str | None, column: str | None, normalize: str | None, beside: str | None
    ) -> list[Row]:
        from pg_envelope.backend.search.advice import advice

        return advice(
            self._host, inspect(self._host, self._tools.table(rel, "search_advice")), column, normalize, beside
        )

    def _slow_reads(self) -> list[Row]:
        from pg_envelope.backend.search.slow_reads import slow_reads

        caller.refuse_others(self._host, "slow_reads", "It shows the statements of all roles.")
        return slow_reads(self._host)

    def _grant_search(self, rel: str | None, column: str | None, role: str | None) -> None:
        from pg_envelope.backend.search.granting import grant_search

        grant_search(self._host, self._tools.table(rel, "grant_search"), column, role)

    def _add_search(
        self,
        rel: str | None,
        column: str | None,
        spec: str | None,
        batch_size: int | None,
        pause_ms: int | None,
        max_lag_mb: int | None,
    ) -> None:
        from pg_envelope.backend.search.adding import add_search

        wanted = parse_one(column or "", json.loads(spec or "null"))
        oid, pace = self._tools.settled(rel, "add_search"), pace_of(batch_size, pause_ms, max_lag_mb=max_lag_mb)
        add_search(self._host, self._tools.keys, oid, column, wanted, pace)

    def _drop_search(self, rel: str | None, column: str | None, name: str | None) -> None:
        from pg_envelope.backend.search.dropping import drop_search

        drop_search(self._host, self._tools.settled(rel, "drop_search"), column, name)

    def _rotate_search(
        self,
        rel: str | None,
        column: str | None,
        name: str | None,
        normalize: str | None,
        batch_size: int | None,
        pause_ms: int | None,
        max_lag_mb: int | None,
    ) -> None:
        from pg_envelope.backend.search.rotating import rotate_search

        oid, pace = self._tools.settled(rel, "rotate_search"), pace_of(batch_size, pause_ms, max_lag_mb=max_lag_mb)
        rotate_search(self._host, self._tools.keys, oid, column, name, normalize, pace)
