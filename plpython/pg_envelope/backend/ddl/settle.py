"""Makes view, triggers and key catalog follow what a command did to the base table under the view's name."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.ddl import exchange, intact, moved_checks, retired
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.sqltext import commas, ident, literal
from pg_envelope.backend.tables import build, catalog, dependents, grants, inspect, kept, partitions
from pg_envelope.backend.tables.generate import COMMENTED, Layout, function_names
from pg_envelope.backend.tables.inspect import Column, Table
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.backend.tables.refresh import refresh, take_over_names
from pg_envelope.backend.tables.unprotect import drop_view, drop_view_triggers, make_plain
from pg_envelope.errors import EnvelopeError
from pg_envelope.records import dataclass, replace

# What depends on columns of a relation: $1 is its oid, $2 their names.
DEPENDENTS = """
SELECT DISTINCT CASE WHEN w.rulename = '_RETURN' THEN pg_describe_object('pg_class'::regclass, w.ev_class, 0)
    ELSE pg_describe_object(d.classid, d.objid, d.objsubid) END AS what
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
LEFT JOIN pg_catalog.pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND d.deptype = 'n' AND a.attname = ANY ($2::name[])"""
# As PostgreSQL has it for a table: the dependents of a column go first.
USERS = f"{DEPENDENTS} AND d.classid <> 'pg_trigger'::regclass ORDER BY 1"
FOREIGN = f"""
SELECT p.proname AS name FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = $1 AND p.proname = ANY ($2::name[])
    AND obj_description(p.oid, 'pg_proc') IS DISTINCT FROM {literal(COMMENTED)} || $3"""


class StillUsed(EnvelopeError):
    """A view, rule, policy or function uses a column that a command removed or changed."""

    sqlstate = "2BP01"


@dataclass(frozen=True)
class Change:
    """What happened to the columns that the view shows, by the names that it has for them."""

    dropped: list[str]
    renamed: dict[str, str]


def settle(host: Host, exchanged: Row) -> None:
    """Raises what forbids the change, which then never was. Raises StillUsed, Unsupported, LeftBehind."""
    base = exchange.end(host, exchanged)
    if base is None:
        # Its keys stay, as for every table that is dropped, and a table that is restored takes them back.
        catalog.release_owners(host)
        return
    key, view = catalog.key_of(host, base.oid), inspect.inspect(host, exchanged["view"])
    change = _change(exchanged, base)
    _refuse_used(host, view, change.dropped)
    key = moved_checks.take_over(host, key, base, exchanged, change.dropped)
    searches = retired.columns(host, key, base, change.dropped)
    _refuse_used(host, view, [search.name for search in searches])
    _out_of_the_way(host, view, change.dropped)
    key = take_over_names(host, key, base, view, change.renamed)
    _carry_on(host, key, change)
    retired.forget(host, searches)


def _carry_on(host: Host, key: Row, change: Change) -> None:
    base, view = inspect.inspect(host, key["base"]), inspect.inspect(host, key["view"])
    partitions.hand_over(host, base)
    layout = _searches_last(catalog.layout_of(host, key, base))
    if layout.protected:
        _follow(host, key, base, view, layout, change)
        refresh(host, base.oid)
    else:
        graph = dependents.lock(host, view, view.sql, base.sql)
        make_plain(host, key, base, view, layout, graph)
        retired.rights(host, layout.key_uuid)


def _out_of_the_way(host: Host, view: Table, dropped: list[str]) -> None:
    """Gives columns of the view other names, which nobody else gets, until there is a view without them."""
    for place, name in enumerate(dropped):
        host.run(f"ALTER VIEW {view.sql} RENAME COLUMN {ident(name)} TO {ident(f'pg_envelope dropped {place}')}")


def _change(exchanged: Row, base: Table) -> Change:
    now = {column.attnum: column.name for column in base.columns}
    columns = dict(zip(exchanged["names"], exchanged["numbers"], strict=True))
    return Change(
        [name for name, number in columns.items() if number not in now],
        {name: now[number] for name, number in columns.items() if now.get(number, name) != name},
    )


def _refuse_used(
    host: Host, view: Table, columns: list[str], act: str = "dropped", kind: type[EnvelopeError] = StillUsed
) -> None:
    users = host.rows(USERS, ["oid", "text[]"], [view.oid, columns])
    if users:
        raise kind(
            f"other objects use columns of {view.sql} that are {act}: {commas(columns)}",
            detail="\n".join(f"- {row['what']}" for row in users),
            hint="Drop or change the listed objects first.",
        )


def _follow(host: Host, key: Row, base: Table, view: Table, layout: Layout, change: Change) -> None:
    """Makes defaults, comments and columns of the view those of the base table."""
    retyped = [new for old, new in _both(view, layout) if (old.type, old.collation) != (new.type, new.collation)]
    intact.check(host, key, base, layout, [column.name for column in retyped], change.dropped)
    kept.check(host, layout, base)
    _refuse_taken(host, layout)
    if base.comment != view.comment:
        grants.comment(host, f"VIEW {view.sql}", base.comment)
    if change.dropped or retyped or not _begins_with(layout, view):
        _make_again(host, base, view, layout, [column.name for column in retyped])
    else:
        _set_defaults(host, base, view, layout)


def _searches_last(layout: Layout) -> Layout:
    """Keeps search columns behind those that a table would have, so that VALUES without column names fit."""
    columns = sorted(layout.columns, key=lambda column: column.name in layout.searches)
    return replace(layout, columns=tuple(columns))


def _begins_with(layout: Layout, view: Table) -> bool:
    """Tells whether the columns of the view stay where they are, so that it can stay, too."""
    names = [column.name for column in layout.columns]
    return names[: len(view.columns)] == [column.name for column in view.columns]


def _both(view: Table, layout: Layout) -> list[tuple[Column, Column]]:
    """Returns the columns with values that stay, as they are in the view and as they shall be."""
    shown = {column.name: column for column in view.columns if column.name not in layout.searches}
    return [(shown[column.name], column) for column in layout.columns if column.name in shown]


def _refuse_taken(host: Host, layout: Layout) -> None:
    """Refuses a name of the view under which a function of somebody else would be replaced."""
    names = function_names(layout.view_name, len(layout.checks))
    for row in host.rows(FOREIGN, ["name", "text[]", "text"], [layout.schema, names, layout.key_uuid]):
        raise errors.Unsupported(f"a trigger function's name is taken: {row['name']}", hint="Rename that function.")


def _set_defaults(host: Host, base: Table, view: Table, layout: Layout) -> None:
    new = [
        build.set_default(now.name, now.default)
        for old, now in _both(view, layout)
        if now.name not in layout.protected and not now.generated and old.default != now.default
    ]
    if new:
        AsOwner(host, base.owner_oid).run(f"ALTER VIEW {view.sql} {commas(new)}")


def _make_again(host: Host, base: Table, view: Table, layout: Layout, retyped: list[str]) -> None:
    """Makes another view, because PostgreSQL removes no column from a view, and gives none another type."""
    _refuse_used(host, view, retyped, "given another type", errors.Unsupported)
    graph = dependents.lock(host, view, view.sql, base.sql)
    found = dependents.read(host, graph.nodes)
    obstacles = dependents.unserved(host, view, layout.view_columns, graph, found)
    if obstacles:
        raise StillUsed(
            f"what uses {view.sql} cannot follow the change; nothing was changed",
            detail="\n".join(f"- {obstacle}" for obstacle in obstacles),
            hint="Drop or change the listed objects first.",
        )
    names = {column.name for column in layout.columns}
    acl = [row for row in grants.read(host, view.oid) if row["column"] is None or row["column"] in names]
    with dependents.carried(host, found):
        drop_view_triggers(host, view)
        drop_view(host, view)
        build.build(host, build.as_shown(base, view, layout), layout, acl, None)
