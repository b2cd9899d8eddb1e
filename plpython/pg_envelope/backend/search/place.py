"""Finds and locks a protected table, for the procedures that change its search columns."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.search import keys as search_keys
from pg_envelope.backend.search.column import SearchColumn
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables import catalog, inspect, locks
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.inspect import Column, Table
from pg_envelope.records import dataclass

HINT = "envelope.searches lists the search columns."


@dataclass(frozen=True)
class Place:
    """`key` is the table's row of the catalog."""

    key: Row
    base: Table
    view: Table
    layout: Layout

    @property
    def oid(self) -> int:
        return self.base.oid

    def source(self, column: str | None) -> Column:
        """Returns a protected column, as its values are in the clear. Raises NotProtected."""
        found = self.layout.protected.get(column or "")
        if found is None:
            raise errors.NotProtected(
                f"{self.layout.view} has no such protected column", hint="envelope.columns lists protected columns."
            )
        return found.column

    def search(self, column: str | None, name: str | None) -> SearchColumn:
        """Returns the search column of that name, or the only one of a protected column; none that replaces another.

        Raises NotProtected, BadInput.
        """
        source = self.source(column).name
        every = [s for s in self.layout.searches.values() if s.source == source and s.replaces is None]
        found = [search for search in every if name in (None, search.name)]
        if not found:
            raise errors.NotProtected(f"{self.layout.view} has no such search column", hint=HINT)
        if len(found) > 1:
            raise errors.BadInput(
                f"column {source} has several search columns: say which",
                detail=", ".join(search.name for search in found),
            )
        return found[0]


def find(host: Host, oid: int) -> Place:
    """Finds a table by its view or base table. Raises NotProtected."""
    key = catalog.key_of(host, oid)
    if key["view_relname"] is None:
        raise errors.NotProtected("the table's view is gone", hint="CALL envelope.refresh(...) makes it again.")
    base, view = inspect.inspect(host, key["base"]), inspect.inspect(host, key["view"])
    return Place(key, base, view, catalog.layout_of(host, key, base))


def replacing(place: Place, search: SearchColumn) -> SearchColumn | None:
    """Returns the column that rotate_search() is making to replace a search column."""
    every = place.layout.searches.values()
    return next((s for s in every if s.source == search.source and s.replaces == search.name), None)


def lock(host: Host, *places: Place) -> None:
    """Locks the tables until the transaction ends, so that nobody uses them. Raises Locked."""
    relations = [name for place in places for name in (place.view.sql, place.base.sql)]
    locks.exclusive(host, *dict.fromkeys(relations))


def refuse(place: Place, what: str, obstacles: list[str]) -> None:
    """Raises Unsupported if there are obstacles."""
    if obstacles:
        raise errors.Unsupported(
            f"{what}: {place.layout.view} cannot be changed as it is; nothing was changed",
            detail="\n".join(f"- {obstacle}" for obstacle in obstacles),
            hint="Change or drop what is listed, then call it again.",
        )


def begin_column(host: Host, place: Place, search: SearchColumn) -> None:
    """Adds an empty token column that the view does not show yet. After refresh() writes fill it."""
    host.run(f"ALTER TABLE {place.base.sql} ADD COLUMN {ident(search.name)} {search.stored}")
    column = inspect.inspect(host, place.oid).column(search.name)
    assert column is not None
    search_keys.record(host, place.layout.protected[search.source].field_uuid, column.attnum, search)
