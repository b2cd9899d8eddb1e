"""Has the keys of a batch's tenants or subjects ready before the batch locks its rows.

A key that is made waits for other sessions that make the same key. Whoever holds locks of rows meanwhile meets
deadlocks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from pg_envelope.backend.host import Host
from pg_envelope.backend.jobs.job import Job
from pg_envelope.backend.jobs.resealing import LOCK_NOT_AVAILABLE
from pg_envelope.backend.link import Link
from pg_envelope.backend.rollout.proofs import PROTECT
from pg_envelope.backend.scope_keys import ScopeKeys
from pg_envelope.backend.search.place import Place
from pg_envelope.backend.tables.canonical import canonical
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.owner import AsOwner

# Fetches the keys of a view for canonical texts of tenants or subjects.
Fetch = Callable[[int, list[str]], int]
# Further keys come by read-ahead.
MOST_FETCHED = 1000
# Less than the usual deadlock_timeout: so it is never a writer whose transaction is ended.
BRIEFLY = "SET LOCAL lock_timeout = '100ms'"
# All sessions that sort them make them in one order.
WITHOUT_KEY = """
SELECT s.scope FROM unnest($2::text[]) AS s (scope) WHERE NOT EXISTS (
    SELECT FROM envelope_private.dek d JOIN envelope_private.field_key fk USING (dek_id)
    WHERE d.key_uuid = $1 AND d.scope = s.scope AND d.state = 'active' AND fk.state = 'active')
ORDER BY s.scope"""


def scopes(layout: Layout, relation: str, where: str) -> str:
    """Returns the query for the canonical texts of the tenants or subjects of rows `t` of a relation."""
    text = canonical(layout.column(layout.scope_column or ""), "t")
    return f"SELECT DISTINCT {text} AS scope FROM {relation} t WHERE {where}"


class ReadyKeys:
    """Serves one job of one table in tenant or subject scope."""

    def __init__(self, host: Host, link: Link, fetch: Fetch, found: Place, job: Job, act: str) -> None:
        self._host, self._link, self._fetch, self._job, self._act = host, link, fetch, job, act
        self._view, self._layout = found.view.oid, found.layout
        self._origin, self._label = str(found.key["scope_key"]), str(found.key["view_name"])
        self._owner = AsOwner(host, found.base.owner_oid)

    def have(self, relation: str, where: str) -> None:
        """Makes keys that are missing, and fetches all, for the rows that a condition finds. Commits.

        Raises KeyDestroyed, KeySuspended and Aborted.
        """
        rows = self._owner.rows(scopes(self._layout, relation, where))
        found = [row["scope"] for row in rows if row["scope"] is not None]
        self._host.commit()
        if not found:
            return
        if self._act == PROTECT:
            self._make(found)
        self._fetch(self._view, found[:MOST_FETCHED])
        self._host.commit()

    def _make(self, found: list[str]) -> None:
        rows = self._host.rows(WITHOUT_KEY, ["uuid", "text[]"], [self._origin, found])
        missing = [row["scope"] for row in rows]
        if self._made(missing):
            return
        for scope in missing:
            while not self._made([scope]):
                self._job.rest(0)

    def _made(self, missing: list[str]) -> bool:
        """Makes keys in one transaction. Returns False if another session is making one of them."""
        self._host.setting(BRIEFLY)
        try:
            for scope in missing:
                if self._keys.active(self._origin, scope) is None:
                    self._keys.make(self._origin, scope, self._label)
        except Exception as error:
            if getattr(error, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            self._host.rollback()
            return False
        self._host.commit()
        return True

    @cached_property
    def _keys(self) -> ScopeKeys:
        return ScopeKeys(self._host, self._link)
