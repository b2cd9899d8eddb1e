"""drop_search(): removes a search column, or ends the making of one."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.host import Host
from pg_envelope.backend.jobs.job import Running
from pg_envelope.backend.search import carried, place, protecting, references, rotating, token_indexes
from pg_envelope.backend.search.column import SearchColumn
from pg_envelope.backend.search.place import Place
from pg_envelope.backend.tables import dependents, grants
from pg_envelope.backend.tables.build import build
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.inspect import Table
from pg_envelope.backend.tables.refresh import refresh
from pg_envelope.backend.tables.unprotect import carryable, drop_view, drop_view_triggers
from pg_envelope.records import replace

LIVE = """
SELECT pid FROM envelope_private.live_job WHERE key_uuid = $1 AND what = 'search' AND pid <> pg_backend_pid()"""


def drop_search(host: Host, oid: int, column: str | None, name: str | None) -> None:
    """Gives up a rotate_search() that is changing the column; then the column stays as it was.

    Raises NotProtected, BadInput, Running, or Unsupported with the list of what depends on the view."""
    found = place.find(host, oid)
    search = found.search(column, name)
    _refuse_live(host, found)
    if (next_one := place.replacing(found, search)) is not None:
        rotating.give_up(host, next_one.search_uuid)
        return
    if not search.is_filled:
        place.lock(host, found)
        protecting.drop_searches(host, found.base.sql, found.layout, [search])
        refresh(host, found.oid)
        return
    if references.is_compared(host, found.base, search):
        raise errors.Unsupported(
            f"a foreign key compares the tokens of {search.name}",
            hint=f"Drop the foreign key of {found.base.sql} first, or unprotect the table.",
        )
    graph = dependents.lock(host, found.view, found.view.sql, found.base.sql)
    shown = [column for column in found.view.columns if column.name != search.name]
    with dependents.carried(host, carryable(host, found.view, shown, graph, "made without a search column")):
        _drop(host, found, search)


def _refuse_live(host: Host, found: Place) -> None:
    if live := host.row(LIVE, ["uuid"], [found.layout.key_uuid]):
        raise Running(
            "another session makes search tokens of this table",
            detail=f"pid {live['pid']}",
            hint="SELECT envelope.abort(...) ends it.",
        )


def _drop(host: Host, found: Place, search: SearchColumn) -> None:
    """Makes the view again, because PostgreSQL removes no column from a view."""
    indexes = token_indexes.names(host, found.base, search.name)
    acl = [row for row in grants.read(host, found.view.oid) if row["column"] != search.name]
    drop_view_triggers(host, found.view)
    drop_view(host, found.view)
    references.drop_columns(host, found.base)
    protecting.drop_searches(host, found.base.sql, found.layout, [search])
    carried.forget_of(host, found.layout.key_uuid, search.source, indexes)
    build(host, _like(found), _without(found, search), acl, None)
    host.notice(
        f"search column {search.name} of {found.layout.view} is dropped",
        detail=f"with its indexes: {', '.join(indexes) or 'none'}",
        hint="What a unique index of it kept apart can be equal from now on.",
    )


def _without(found: Place, search: SearchColumn) -> Layout:
    layout = found.layout
    return replace(
        layout,
        columns=tuple(column for column in layout.columns if column.name != search.name),
        searches={name: one for name, one in layout.searches.items() if name != search.name},
    )


def _like(found: Place) -> Table:
    """Returns the base table with the view's comments and the defaults of protected columns."""
    shown = tuple(found.view.column(column.name) or column for column in found.base.columns)
    columns = tuple(
        replace(column, default=seen.default, comment=seen.comment)
        for column, seen in zip(found.base.columns, shown, strict=True)
    )
    return replace(found.base, columns=columns, comment=found.view.comment)
