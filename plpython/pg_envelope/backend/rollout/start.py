"""Begins protect(online): in one short transaction the table gets its view, its guard and columns for envelopes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pg_envelope import errors
from pg_envelope.backend.field_options import FieldOptions
from pg_envelope.backend.host import Host, Undone
from pg_envelope.backend.keys import Keys
from pg_envelope.backend.rollout import domain, fitness, proofs, tokens
from pg_envelope.backend.rollout.way import Way
from pg_envelope.backend.search import carried, protecting
from pg_envelope.backend.search import keys as search_keys
from pg_envelope.backend.search.carried import Carried, Dropped, Index
from pg_envelope.backend.sqltext import commas, derived_name, ident
from pg_envelope.backend.tables import catalog, dependents, grants, inspect, locks, options, refusals
from pg_envelope.backend.tables.build import build
from pg_envelope.backend.tables.dependents import Dependent, Graph, statistics
from pg_envelope.backend.tables.dependents.statistics import Statistics
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.inspect import Column, Table
from pg_envelope.backend.tables.options import ProtectArguments
from pg_envelope.backend.tables.prepare import served
from pg_envelope.backend.tables.protect import layout_for, loosened, make_keys, renamed, tell_readers
from pg_envelope.records import replace

# It keeps the table's definition as it is, and does not stop readers and writers.
NO_DDL = "SHARE UPDATE EXCLUSIVE"
PROTECTING = Way()
BEGUN = "UPDATE envelope_private.key SET rollout = $2 WHERE base = $1::oid"
# The numbers of the new columns.
PLAIN_COLUMN = """
UPDATE envelope_private.field f SET plain_column = $3, plain_not_null = $4, attnum = a.attnum, in_rollout = true
FROM pg_catalog.pg_attribute a WHERE f.field_uuid = $1 AND a.attrelid = $2 AND a.attname = f.attname"""


def start(host: Host, keys: Keys, oid: int, asked: ProtectArguments, way: Way = PROTECTING) -> None:
    """Raises BadInput, AlreadyProtected, Unsupported or Conflict before anything is touched, and Locked."""
    scoping = asked.scoping
    options.check_store(asked.store)
    table = _without_ddl(host, oid)
    refusals.check_columns(table, asked.wanted, scoping.column)
    indexes = carried.find(host, table, asked.wanted)
    found = [index for index in served(indexes, asked.wanted) if way.misfit(table, index) is None]
    dropped = dropped_first(host, table, asked.wanted, found, way)
    wanted = protecting.with_searches(asked.wanted, found, asked.shared)
    searched = any(options.search for options in wanted.values())
    step = proofs.TOKENS if searched and way.tokens_first else way.act
    # The columns' uuids come with the keys, which are made only if nothing stands in the way.
    draft = in_rollout(layout_for(table, "", wanted, dict.fromkeys(wanted, ""), scoping), way)
    way.check(host, table, wanted)
    kept = [index for index in indexes if index.name not in {one.name for one in dropped}]
    fitness.check_protect(host, table, draft, wanted, kept, way, scoping)
    followers, unserved = _rehearsed(host, table)
    unserved += way.obstacles(table, list(wanted), [dependent.what for dependent in followers])
    copies = {} if asked.keep_copies else dependents.copies.find(host, table.oid, wanted)
    clear = way.clear(table, wanted)
    gone: list[Carried] = [*found, *dropped]
    refusals.refuse(table, wanted, refusals.obstacles(host, clear, wanted, scoping.column, gone, unserved, copies))
    # It comes before anything is written to the key catalog, which one of two sessions may lock altogether afterwards.
    domain.alone(host)
    key_uuid, fields = make_keys(host, keys, table, wanted, asked)
    made = protecting.make(host, keys, clear, wanted, search_keys.origin_of(host, key_uuid))
    layout = in_rollout(layout_for(table, key_uuid, wanted, fields, scoping), way)
    # Nobody waits for the KMS, or for another session's roll-out, behind the lock that comes now.
    if dependents.read(host, _lock(host, table).nodes) != followers:
        raise errors.Conflict(f"what uses {table.sql} was changed meanwhile", hint="Call protect() again.")
    with dependents.carried(host, followers):
        _begin(host, table, layout, way, step, dropped if way.tokens_first else gone)
    carried.record(host, key_uuid, gone)
    if way.tokens_first and searched:
        tokens.begin(host, table.oid, wanted, made)
    elif searched or gone:
        tokens.make_at_once(host, table.oid, wanted, made, found)
    protecting.tell_dropped(host, dropped)
    tell_readers(host, layout, followers)


def dropped_first(
    host: Host, table: Table, wanted: Mapping[str, FieldOptions], kept: list[Index], way: Way
) -> list[Dropped | Statistics]:
    """Returns what is dropped in the first transaction, because nothing can stand in for it."""
    indexes = carried.droppable(host, table, [name for name in wanted if wanted[name].drops_indexes], kept)
    return [*indexes, *(statistics.find(host, table, wanted) if way.tokens_first else [])]


def _rehearsed(host: Host, table: Table) -> tuple[list[Dependent], list[str]]:
    """Returns the dependents, and a line for each that cannot follow. The locks that this needs end with it."""
    found: list[Dependent] = []
    unserved: list[str] = []
    try:
        with host.subtransaction():
            graph = _lock(host, table)
            found += dependents.read(host, graph.nodes)
            unserved += dependents.unserved(host, table, table.columns, graph, found)
            raise Undone
    except Undone:
        return found, unserved


def _lock(host: Host, table: Table) -> Graph:
    return dependents.lock(host, table, table.sql, tries=locks.BRIEF)


def _without_ddl(host: Host, oid: int) -> Table:
    """Returns the table, of which nobody can change the definition until the transaction ends."""
    catalog.refuse_protected(host, oid)
    table = inspect.inspect(host, oid)
    refusals.check_kind(table)
    locks.lock(host, table.sql, mode=NO_DDL)
    catalog.refuse_protected(host, oid)
    locked, table = table, inspect.inspect(host, oid)
    refusals.check_same(locked, table)
    refusals.check_kind(table)
    return table


def in_rollout(layout: Layout, way: Way) -> Layout:
    protected = {
        name: replace(found, plain=derived_name(name, way.suffix), in_rollout=True)
        for name, found in layout.protected.items()
    }
    clear = tuple(_clear(found.column, found.plain or "") for found in protected.values())
    return way.typed(replace(layout, protected=protected, rollout=way.act, clear_columns=clear))


def _clear(column: Column, name: str) -> Column:
    return replace(column, name=name, not_null=False, default=None)


def _begin(host: Host, table: Table, layout: Layout, way: Way, step: str, gone: Sequence[Carried]) -> None:
    """`gone` are the indexes of the old values that are dropped at once."""
    catalog.record(host, table, layout)
    for index in gone:
        host.run(index.drop(table.schema, table.sql))
    acl = grants.read(host, table.oid)
    shape = inspect.shape(host, table.oid) if way.keeps_types(layout) else None
    host.run(loosened(table, layout))
    with dependents.carried(host, dependents.own.read(host, table, layout.protected)):
        add_envelopes(host, table, layout, way.constraints(layout) if step == way.act else [])
    host.run(renamed(table, layout))
    record_begun(host, table, layout, step)
    way.record(host, layout)
    build(host, table, replace(layout, rollout=step), acl, shape)


def record_begun(host: Host, table: Table, layout: Layout, step: str) -> None:
    host.rows(BEGUN, ["oid", "text"], [table.oid, step])
    for found in layout.protected.values():
        told = [found.field_uuid, table.oid, found.plain, found.column.not_null]
        host.rows(PLAIN_COLUMN, ["uuid", "oid", "name", "bool"], told)


def add_envelopes(host: Host, table: Table, layout: Layout, constraints: list[str]) -> None:
    """Gives the columns of the values other names, and adds columns for envelopes. No row is read or written."""
    for plain, name in layout.plains.items():
        host.run(f"ALTER TABLE {table.sql} RENAME COLUMN {ident(name)} TO {ident(plain)}")
    parts = [part for name in layout.protected for part in _envelope_column(name)]
    parts += [f"ALTER {ident(found.plain or '')} DROP NOT NULL" for found in layout.protected.values()]
    with domain.without_check(host):
        host.run(f"ALTER TABLE {table.sql} {commas([*parts, *constraints])}")


def _envelope_column(name: str) -> list[str]:
    # Envelopes do not compress, and their headers are read without the rest.
    return [f"ADD COLUMN {ident(name)} envelope.ciphertext", f"ALTER {ident(name)} SET STORAGE EXTERNAL"]
