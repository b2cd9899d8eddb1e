"""Follows a protected column through the views and materialized views that read it, at whatever distance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from pg_envelope.backend.access.levels import CLEAR, MASKED, NONE, READ, best
from pg_envelope.backend.host import Row


class ViewGraph:
    """The views over a column. An edge leads from a view to a relation below it, and has the roles that may read there.

    A view is checked with its owner's rights, or its user's, and shows what its user's mask leaves. A materialized view
    holds what its owner saw.
    """

    def __init__(self, views: list[Row], edges: list[Row], masked: Collection[str]) -> None:
        self._views = {row["oid"]: row for row in views}
        self._below: dict[int, list[Row]] = defaultdict(list)
        for row in edges:
            self._below[row["view"]].append(row)
        self._masked = masked
        self._known: dict[tuple[str, int], str] = {}

    def level(self, user: str, oid: int) -> str:
        """Returns what a user finds in a relation that it may read."""
        view = self._views.get(oid)
        if view is None:
            return MASKED if user in self._masked else CLEAR
        place = (view["owner"] if view["is_copy"] else user, oid)
        if place not in self._known:
            # Views can be replaced so that they read each other. PostgreSQL refuses to read these.
            self._known[place] = NONE
            self._known[place] = self._computed(place[0], view)
        return self._known[place]

    def _computed(self, user: str, view: Row) -> str:
        reader = user if view["by_user"] else view["owner"]
        found = best(self.level(user, edge["source"]) for edge in self._below[view["oid"]] if reader in edge["readers"])
        # A copy keeps its rows when its owner loses the right to read them anew. Nobody knows what they were.
        return CLEAR if view["is_filled"] and found not in READ else found
