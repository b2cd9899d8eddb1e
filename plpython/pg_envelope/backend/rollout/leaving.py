"""Ends unprotect(online) of some columns: these are plain again, and the table stays protected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pg_envelope.backend.ddl import retired
from pg_envelope.backend.host import Host
from pg_envelope.backend.rollout import proofs
from pg_envelope.backend.rollout.joining import empty
from pg_envelope.backend.rollout.settling import returning
from pg_envelope.backend.search import carried
from pg_envelope.backend.search import keys as search_keys
from pg_envelope.backend.search.column import SearchColumn
from pg_envelope.backend.search.place import Place
from pg_envelope.backend.sqltext import commas, ident
from pg_envelope.backend.tables import build, catalog, dependents, grants, inspect
from pg_envelope.backend.tables.dependents import Graph
from pg_envelope.backend.tables.generate import GUARDS, Layout
from pg_envelope.backend.tables.inspect import Column
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.backend.tables.refresh import refresh
from pg_envelope.backend.tables.unprotect import (
    add_check,
    carryable,
    drop_view,
    drop_view_triggers,
    into_place,
    restore_indexes,
)

AT_REST = """
UPDATE envelope_private.key SET rollout = NULL, checks = $2::jsonb WHERE key_uuid = $1"""


def remaining(found: Place) -> list[Column]:
    """Returns the columns that the view shows afterwards: without the search columns of what leaves."""
    gone = found.layout.of_rollout().searches
    return [column for column in found.view.columns if column.name not in gone]


def leave(host: Host, found: Place, graph: Graph) -> None:
    """Comes when every value of the columns of the roll-out is in the clear, under the locks of the last step.

    Raises Unsupported where a search column that goes with them is in use.
    """
    shown = remaining(found)
    if len(shown) == len(found.view.columns):
        searches = _leave(host, found)
        refresh(host, found.oid)
    else:
        with dependents.carried(host, carryable(host, found.view, shown, graph, "unprotected")):
            searches = _leave(host, found)
            _make_again(host, found, shown)
        refresh(host, found.oid)
    search_keys.drop_unused(host, searches)
    host.notice(
        f"columns of {found.view.sql} are plain again: {commas(found.layout.in_rollout)}",
        hint="Their keys stay in envelope.keys: old backups need them.",
    )


def _leave(host: Host, found: Place) -> list[SearchColumn]:
    """Changes base table and key catalog. Returns the search columns that are gone."""
    part = found.layout.of_rollout()
    back = carried.of_rollout(host, found.layout)
    empty(host, found.layout)
    for name in GUARDS.values():
        host.run(f"DROP TRIGGER IF EXISTS {ident(name)} ON {found.base.sql}")
    with dependents.carried(host, dependents.own.read(host, found.base, part.protected)):
        _drop_tokens(host, found, part)
        into_place(host, found.base, part)
    _settle(host, found, part)
    restore_indexes(host, found.base, found.base.sql, found.layout)
    carried.forget_some(host, part.key_uuid, back)
    _record(host, found, part)
    return list(part.searches.values())


def _drop_tokens(host: Host, found: Place, part: Layout) -> None:
    if part.searches:
        dropped = commas(f"DROP COLUMN {ident(name)}" for name in part.searches)
        host.run(f"ALTER TABLE {found.base.sql} {dropped}")
    for search in part.searches.values():
        search_keys.forget(host, part.protected[search.source].field_uuid, search.name)


def _settle(host: Host, found: Place, part: Layout) -> None:
    """Gives the base table what it had of these columns before: NOT NULL, defaults, CHECK constraints."""
    base, owner = found.base, AsOwner(host, found.base.owner_oid)
    for name, protected in part.protected.items():
        if protected.column.not_null:
            host.run(f"ALTER TABLE {base.sql} ALTER {ident(name)} SET NOT NULL")
    proofs.drop(host, base.sql, inspect.inspect(host, base.oid), part)
    if defaults := list(_defaults(found, part)):
        owner.run(f"ALTER TABLE {base.sql} {commas(defaults)}")
    there = {check.name for check in inspect.inspect(host, base.oid).checks}
    for check in returning(found.layout, proofs.UNPROTECT):
        if check.name not in there:
            add_check(owner, base.sql, check, validated=check.validated)
        if check.comment is not None:
            grants.comment(host, f"CONSTRAINT {ident(check.name)} ON {base.sql}", check.comment)


def _defaults(found: Place, part: Layout) -> Iterable[str]:
    for column in found.view.columns:
        if column.name in part.protected and column.default is not None:
            yield build.set_default(column.name, column.default)


def _record(host: Host, found: Place, part: Layout) -> None:
    gone = {check.name for check in returning(found.layout, proofs.UNPROTECT)}
    left = [check for check in found.layout.checks if check.name not in gone]
    host.rows(AT_REST, ["uuid", "text"], [part.key_uuid, catalog.checks_json(left)])
    for protected in part.protected.values():
        retired.retire(host, found.key, protected.field_uuid)


def _make_again(host: Host, found: Place, shown: Sequence[Column]) -> None:
    """Makes the view again, because PostgreSQL removes no column from a view."""
    names = {column.name for column in shown}
    acl = [row for row in grants.read(host, found.view.oid) if row["column"] is None or row["column"] in names]
    key, base = catalog.key_of(host, found.oid), inspect.inspect(host, found.oid)
    layout = catalog.layout_of(host, key, base)
    drop_view_triggers(host, found.view)
    drop_view(host, found.view)
    build.build(host, build.as_shown(base, found.view, layout), layout, acl, None)
