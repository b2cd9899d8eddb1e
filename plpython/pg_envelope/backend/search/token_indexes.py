"""Indexes of search columns that are made while the table is in use."""

from __future__ import annotations

from collections.abc import Iterable

from pg_envelope.backend.host import Host
from pg_envelope.backend.search import carried, protecting
from pg_envelope.backend.search.carried import Index
from pg_envelope.backend.search.column import SearchColumn
from pg_envelope.backend.sqltext import derived_name, literal
from pg_envelope.backend.tables import lent, locks
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.inspect import Table
from pg_envelope.backend.tables.owner import AsOwner

# Of a column, all that PostgreSQL knows; more than carried.INDEXES finds.
ALL = """
SELECT c.relname AS name, n.nspname AS schema FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid AND c.relkind IN ('i', 'I')
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND a.attname = $2 ORDER BY c.relname"""
TAKEN = """
SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2"""


def make(host: Host, base: Table, layout: Layout, searches: Iterable[SearchColumn]) -> None:
    """Makes indexes of columns that the view does not show yet. Writes wait meanwhile. Raises Duplicate, Locked."""
    for search in searches:
        _make(host, base, layout, search)


def _make(host: Host, base: Table, layout: Layout, search: SearchColumn) -> None:
    wanted = _like_before(host, base, search) if search.replaces else [_own(host, layout, search)]
    there = names(host, base, search.name)
    with protecting.usable(host, base, lent.LONG):
        locks.lock(host, layout.base, mode="SHARE")
        for index in wanted:
            if index.name not in there and (search.replaces or not there):
                carried.create(AsOwner(host, base.owner_oid), index, layout.base)


def _own(host: Host, layout: Layout, search: SearchColumn) -> Index:
    index = protecting.own_index(layout, search, search.is_unique)
    return carried.renamed(index, _free(host, layout.schema, index.name))


def _free(host: Host, schema: str, name: str) -> str:
    number, free = 1, name
    while host.row(TAKEN, ["name", "name"], [schema, free]):
        number += 1
        free = derived_name(name, f"_{number}")
    return free


def _like_before(host: Host, base: Table, search: SearchColumn) -> list[Index]:
    """Returns the indexes of the column that it replaces, under temporary names."""
    replaced = search.replaces or ""
    tokens: carried.Tokens = {(replaced, None): (search.name, search.opclass)}
    return [
        carried.renamed(index.of_tokens(tokens), temporary_name(index.name))
        for index in carried.of_column(host, base, replaced)
    ]


def temporary_name(index: str) -> str:
    return derived_name(index, "_pg_envelope_next")


def names(host: Host, base: Table, column: str) -> list[str]:
    return [row["name"] for row in host.rows(ALL, ["oid", "name"], [base.oid, column])]


def obstacles(host: Host, base: Table, column: str) -> Iterable[str]:
    """Indexes of a search column that could not be made again of other tokens."""
    known = {index.name for index in carried.of_column(host, base, column)}
    for name in names(host, base, column):
        if name not in known:
            yield f"index {literal(name)} on {column} cannot be made again"
