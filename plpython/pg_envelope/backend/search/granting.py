"""Carries out grant_search(): it gives the right to look rows up without the right to read the searched values."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.host import Host
from pg_envelope.backend.sqltext import commas, ident
from pg_envelope.backend.tables import catalog, inspect


def grant_search(host: Host, oid: int, column: str | None, role: str | None) -> None:
    """Grants SELECT on all search columns of a protected column. Raises NotProtected and BadInput."""
    if not role:
        raise errors.BadInput("grant_search() needs a role")
    key = catalog.key_of(host, oid)
    layout = catalog.layout_of(host, key, inspect.inspect(host, key["base"]))
    found = layout.searches_of(column or "")
    if not found:
        raise errors.NotProtected(
            f"{layout.view} has no search column for this column", hint="envelope.searches lists the search columns."
        )
    host.run(f"GRANT SELECT ({commas(ident(search.name) for search in found)}) ON {layout.view} TO {role}")
