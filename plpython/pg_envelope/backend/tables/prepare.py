"""Finds out what protect() has to do with a table and everything around it, before anything is touched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from pg_envelope.backend.field_options import FieldOptions
from pg_envelope.backend.host import Host
from pg_envelope.backend.search import carried, functions, protecting
from pg_envelope.backend.search.carried import Dropped, Index
from pg_envelope.backend.search.column import TOKEN
from pg_envelope.backend.tables import catalog, dependents, inspect, refusals
from pg_envelope.backend.tables.dependents import Dependent, statistics
from pg_envelope.backend.tables.dependents.statistics import Statistics
from pg_envelope.backend.tables.inspect import Column, Table
from pg_envelope.backend.tables.options import ProtectArguments
from pg_envelope.backend.tables.refusals import Obstacle
from pg_envelope.records import dataclass, replace


@dataclass(frozen=True)
class Prepared:
    """A table, the relations that are `locked` for it, and what will become of what hangs on it.

    `wanted` has the searches that its indexes ask for. Tokens stand in for the indexes in `carried`. `dropped` is put
    back by unprotect(). `followers` are its dependents, each after those that it uses.
    """

    table: Table
    locked: list[str]
    wanted: Mapping[str, FieldOptions]
    carried: list[Index]
    dropped: list[Dropped | Statistics]
    followers: list[Dependent]
    obstacles: list[Obstacle]


def prepare(host: Host, oid: int, asked: ProtectArguments) -> Prepared:
    """Locks the table and its dependents. Raises BadInput, AlreadyProtected, Locked, or Unsupported for its kind."""
    wanted, scope_column = functions.settle_all(host, asked.wanted), asked.scoping.column
    catalog.refuse_protected(host, oid)
    table = inspect.inspect(host, oid)
    refusals.check_kind(table)
    graph = dependents.lock(host, table, table.sql)
    catalog.refuse_protected(host, oid)
    locked, table = table, inspect.inspect(host, oid)
    refusals.check_same(locked, table)
    refusals.check_kind(table)
    refusals.check_columns(table, wanted, scope_column)
    found = served(carried.find(host, table, wanted), wanted)
    wanted = protecting.with_searches(wanted, found, asked.shared)
    dropped: list[Dropped | Statistics] = [
        *carried.droppable(host, table, [name for name in wanted if wanted[name].drops_indexes], found),
        *statistics.find(host, table, wanted),
    ]
    searches = [search.name for search in chain.from_iterable(options.search for options in wanted.values())]
    followers = dependents.gaining(dependents.read(host, graph.nodes), len(table.columns), searches)
    unserved = dependents.unserved(host, table, _shown(table, searches), graph, followers)
    copies = {} if asked.keep_copies else dependents.copies.find(host, table.oid, wanted)
    obstacles = refusals.obstacles(host, table, wanted, scope_column, [*found, *dropped], unserved, copies)
    return Prepared(table, dependents.names_locked(host, table, graph), wanted, found, dropped, followers, obstacles)


def served(indexes: Iterable[Index], wanted: Mapping[str, FieldOptions]) -> list[Index]:
    """Returns the indexes for which tokens will stand in."""
    return [index for index in indexes if protecting.stands_in(index, wanted)]


def _shown(table: Table, searches: Iterable[str]) -> Iterator[Column]:
    """Yields the columns that the view will have, with a stand-in for each search column."""
    yield from table.columns
    yield from (replace(table.columns[0], name=name, type=TOKEN, collation=None) for name in searches)
