"""Begins protect(online) of further columns of a protected table: they take the steps that its first columns took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pg_envelope import errors
from pg_envelope.backend.field_options import FieldOptions
from pg_envelope.backend.host import Host
from pg_envelope.backend.keys import Keys
from pg_envelope.backend.rollout import domain, fitness, proofs, tokens
from pg_envelope.backend.rollout.start import (
    NO_DDL,
    PROTECTING,
    add_envelopes,
    dropped_first,
    in_rollout,
    record_begun,
)
from pg_envelope.backend.search import carried, place, protecting
from pg_envelope.backend.search import keys as search_keys
from pg_envelope.backend.search.carried import Carried, Index
from pg_envelope.backend.search.place import Place
from pg_envelope.backend.sqltext import commas
from pg_envelope.backend.tables import canary_rows, catalog, dependents, generate, locks, refusals, scoped, upsert
from pg_envelope.backend.tables.generate import Layout, Protected
from pg_envelope.backend.tables.options import ProtectArguments, Scoping
from pg_envelope.backend.tables.prepare import served
from pg_envelope.backend.tables.protect import loosened
from pg_envelope.backend.tables.refresh import refresh
from pg_envelope.records import replace

ORIGIN = "SELECT kek, store FROM envelope_private.key WHERE key_uuid = $1"
# Views and rules that read a column of the base table itself would read what the roll-out empties.
READERS = """
SELECT DISTINCT pg_describe_object('pg_class'::regclass, w.ev_class, 0) AS what
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND w.ev_class <> $2 AND a.attname = ANY ($3::name[])
ORDER BY 1"""


def join(host: Host, keys: Keys, oid: int, asked: ProtectArguments) -> None:
    """Raises BadInput, AlreadyProtected, Unsupported or NotConfigured before anything is touched, and Locked."""
    found = _without_ddl(host, oid)
    _refuse_protected(found, asked.wanted)
    _refuse_other_key(host, found, asked)
    upsert.refuse_allowed(found)
    base = found.base
    refusals.check_columns(replace(base, columns=found.view.columns), asked.wanted, None)
    indexes = carried.find(host, base, asked.wanted)
    kept = [index for index in served(indexes, asked.wanted) if PROTECTING.misfit(base, index) is None]
    dropped = dropped_first(host, base, asked.wanted, kept, PROTECTING)
    wanted = protecting.with_searches(asked.wanted, kept, asked.shared)
    gone: list[Carried] = [*kept, *dropped]
    draft = _joining(found, wanted, dict.fromkeys(wanted, ""))
    left = [index for index in indexes if index.name not in {one.name for one in dropped}]
    fitness.check_protect(host, base, draft, wanted, left, PROTECTING, _scoping(found))
    _refuse_obstacles(host, found, wanted, gone, asked)
    domain.alone(host)
    fields = keys.add_fields(draft.key_uuid, wanted, is_scoped=found.key["scope"] != "table")
    scoped.renew_seals(host, draft.key_uuid)
    made = protecting.make(host, keys, found.view, wanted, search_keys.origin_of(host, draft.key_uuid))
    # Nobody waits for the KMS, or for another session's roll-out, behind the lock that comes now.
    locks.briefly(host, found.view.sql, base.sql)
    _begin(host, found, _joining(found, wanted, fields), proofs.TOKENS if made else proofs.PROTECT, dropped)
    carried.record(host, draft.key_uuid, gone)
    if made:
        tokens.begin(host, base.oid, wanted, made)
    protecting.tell_dropped(host, dropped)


def _without_ddl(host: Host, oid: int) -> Place:
    """Returns the table, of which nobody can change the definition until the transaction ends."""
    found = place.find(host, oid)
    locks.lock(host, found.base.sql, mode=NO_DDL)
    locked, found = found, place.find(host, oid)
    refusals.check_same(locked.base, found.base)
    catalog.refuse_rollout(host, oid, "protect")
    return found


def _refuse_protected(found: Place, wanted: Mapping[str, FieldOptions]) -> None:
    again = [name for name in wanted if name in found.layout.protected]
    if again:
        raise errors.AlreadyProtected(
            "the table is protected already",
            detail=f"view {found.view.sql}, base table {found.base.name}; columns: {commas(again)}",
            hint="To protect further columns, name these alone, with online => true: docs/online.md",
        )


def _refuse_other_key(host: Host, found: Place, asked: ProtectArguments) -> None:
    """Refuses arguments that contradict what the table has. All of its columns share its keys."""
    (has,) = host.rows(ORIGIN, ["uuid"], [found.key["scope_key"]])
    same_scope = asked.scoping == Scoping() or (asked.scoping.kind, asked.scoping.column, asked.scoping.erased) == (
        found.key["scope"],
        found.key["scope_column"],
        found.key["erased"],
    )
    if asked.kek not in ("default", has["kek"]) or asked.store not in (None, has["store"]) or not same_scope:
        raise errors.BadInput(
            f"further columns of {found.view.sql} share its keys, and so its KEK, store and scope",
            detail=f"KEK {has['kek']}, store {has['store']}, scope {found.key['scope']}",
            hint="Leave out kek, store and scope.",
        )


def _scoping(found: Place) -> Scoping:
    """Returns the scope of the table. Its new values are encrypted under keys that it has already."""
    kind = found.key["scope"]
    of = None if kind == "table" else found.base.oid
    return Scoping(kind, found.key["scope_column"], of, found.key["erased"])


def _joining(found: Place, wanted: Mapping[str, FieldOptions], fields: Mapping[str, str]) -> Layout:
    """Returns a layout of the new columns alone."""
    protected = {
        column.name: Protected(column, fields[column.name], wanted[column.name])
        for column in found.base.columns
        if column.name in wanted
    }
    checks = tuple(check for check in found.base.checks if check.columns & protected.keys())
    return in_rollout(replace(found.layout, protected=protected, checks=checks, searches={}, hidden=()), PROTECTING)


def _refuse_obstacles(
    host: Host, found: Place, wanted: Mapping[str, FieldOptions], gone: Sequence[Carried], asked: ProtectArguments
) -> None:
    base = found.base
    copies = {} if asked.keep_copies else dependents.copies.find(host, found.view.oid, wanted)
    lines = list(_obstacles(host, found, list(wanted), gone))
    refusals.refuse(
        found.view,
        wanted,
        refusals.obstacles(host, base, wanted, found.key["scope_column"], gone, lines, copies),
    )


def _obstacles(host: Host, found: Place, names: list[str], gone: Sequence[Carried]) -> Iterator[str]:
    """Yields what stands in the way because the table is protected already."""
    for row in host.rows(READERS, ["oid", "oid", "text[]"], [found.base.oid, found.view.oid, names]):
        yield f"{row['what']} reads the base table itself: let it read {found.view.sql}"
    yield from canary_rows.obstacles(host, found.layout.key_uuid)
    for column in found.layout.hidden:
        yield f"search column {column.name} is not filled: call add_search() or rotate_search() again, which go on"
    tokens_of = found.layout.searches.keys()
    for one in gone:
        if isinstance(one, Index) and (others := sorted(one.names() & tokens_of)):
            yield f"index {one.name} has {commas(others)} of a column that is protected already: drop it"


def _begin(host: Host, found: Place, joining: Layout, step: str, dropped: Sequence[Carried]) -> None:
    base = found.base
    catalog.record(host, base, replace(joining, checks=(*found.layout.checks, *joining.checks)))
    for one in dropped:
        host.run(one.drop(base.schema, base.sql))
    empty(host, found.layout)
    host.run(loosened(base, joining))
    with dependents.carried(host, dependents.own.read(host, base, joining.protected)):
        constraints = PROTECTING.constraints(joining) if step == proofs.PROTECT else []
        add_envelopes(host, base, joining, constraints)
    record_begun(host, base, joining, step)
    refresh(host, base.oid)


def empty(host: Host, layout: Layout) -> None:
    """Leaves the view's columns with nothing behind them, and drops what hands it the rights. refresh() makes both."""
    host.run(generate.emptied(layout, layout.view_columns))
    for rights in layout.rights:
        host.run(f"DROP MATERIALIZED VIEW IF EXISTS {rights}")
