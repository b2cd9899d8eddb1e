"""Carries out unprotect(): a plain table under its old name again, in one transaction.

Its keys stay, for old backups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.rollout import proofs
from pg_envelope.backend.search import carried, partition_indexes, protecting, stand_ins
from pg_envelope.backend.search import references as search_references
from pg_envelope.backend.search.carried import Carried, Index, PlainKey
from pg_envelope.backend.search.references import ForeignKey
from pg_envelope.backend.sqltext import commas, ident, qualified
from pg_envelope.backend.tables import catalog, dependents, generate, grants, inspect, opening, upsert
from pg_envelope.backend.tables.build import drop_no_drafts, functions, sequence_grants, set_default
from pg_envelope.backend.tables.dependents import Dependent, Graph
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.inspect import Check, Column, Table
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.backend.tables.protect import set_compression

STORAGE = {"p": "PLAIN", "e": "EXTERNAL", "m": "MAIN", "x": "EXTENDED"}


def unprotect(host: Host, oid: int, damaged: str) -> None:
    """Raises NotProtected, Unsupported with the list of objects that depend on the view, Damaged with the list of bad
    values.
    """
    opening.check(damaged)
    key = catalog.key_of(host, oid)
    base, view = inspect.inspect(host, key["base"]), inspect.inspect(host, key["view"])
    graph = dependents.lock(host, view, view.sql, base.sql)
    layout = catalog.layout_of(host, key, base)
    _refuse_masked(layout)
    layout = upsert.dropped(host, base, layout)
    make_plain(host, key, base, view, layout, graph, lambda: opening.open_columns(host, key, base, layout, damaged))


def _refuse_masked(layout: Layout) -> None:
    """Raises Unsupported for a table with masks: every reader would see the values in the plain table."""
    masked = [name for name, protected in layout.protected.items() if protected.is_masked]
    if masked:
        raise errors.Unsupported(
            f"{layout.view} cannot be unprotected: a plain column has no masks; nothing was changed",
            detail=f"columns with masks: {commas(masked)}",
            hint="REVOKE SELECT from those who see masks, then SELECT envelope.unmask(...) for each column.",
        )


def make_plain(
    host: Host,
    key: Row,
    base: Table,
    view: Table,
    layout: Layout,
    graph: Graph,
    open_columns: Callable[[], None] | None = None,
) -> None:
    """Makes the table plain again, and carries its dependents along.

    `open_columns` opens the values, if no roll-out has done so.
    """
    found = carryable(host, view, shown(view, layout), graph, "unprotected")
    references = search_references.drop_all(host, [base])
    returning = [search_references.plain(host, reference) for reference in references]
    acl = grants.read(host, view.oid)
    with dependents.carried(host, found):
        _drop(host, base, view, layout)
        with dependents.carried(host, dependents.own.read(host, base, layout.protected)):
            if open_columns:
                open_columns()
            into_place(host, base, layout)
        for rights in layout.rights:
            host.run(f"DROP MATERIALIZED VIEW IF EXISTS {rights}")
        catalog.lock_owners(host)
        host.rows("SELECT envelope_private.drop_seals($1)", ["uuid"], [layout.key_uuid])
        protecting.drop_columns(host, base.sql, layout)
        upsert.drop_columns(host, base)
        host.run(f"ALTER TABLE {base.sql} RENAME TO {ident(view.name)}")
        _set_not_null(host, base, view, layout)
        _restore(host, base, view, layout, acl)
        restore_indexes(host, base, view.sql, layout.at_rest())
        _restore_references(host, base, layout, list(zip(references, returning, strict=True)))
        carried.forget(host, layout.key_uuid)
    catalog.forget(host, key["key_uuid"])
    host.notice(f"{view.sql} is a plain table again", hint="Its keys stay in envelope.keys: old backups need them.")


def shown(view: Table, layout: Layout) -> list[Column]:
    """Returns the columns that the plain table has."""
    return [column for column in view.columns if column.name not in layout.searches]


def into_place(host: Host, base: Table, layout: Layout) -> None:
    """Gives the columns that have the values now their names. They have kept their places among the others."""
    for plain, name in layout.plains.items():
        host.run(f"ALTER TABLE {base.sql} DROP COLUMN {ident(name)}")
        host.run(f"ALTER TABLE {base.sql} RENAME COLUMN {ident(plain)} TO {ident(name)}")


def _set_not_null(host: Host, base: Table, view: Table, layout: Layout) -> None:
    """Comes after the table has its name, because PostgreSQL 18 names the constraint after it."""
    table = qualified(layout.schema, view.name)
    for name in layout.plains.values():
        if layout.protected[name].column.not_null:
            host.run(f"ALTER TABLE {table} ALTER {ident(name)} SET NOT NULL")
    proofs.drop(host, table, inspect.inspect(host, base.oid), layout)


def _drop(host: Host, base: Table, view: Table, layout: Layout) -> None:
    """Drops the view, the guard, and all that they call but the rights, because the values are read once more."""
    drop_view_triggers(host, view)
    for name in generate.GUARDS.values():
        host.run(f"DROP TRIGGER IF EXISTS {ident(name)} ON {base.sql}")
    for function in functions(host, layout.key_uuid):
        host.run(f"DROP FUNCTION {function}")
    drop_view(host, view)
    drop_no_drafts(host, base)


def drop_view_triggers(host: Host, view: Table) -> None:
    for event in generate.EVENTS:
        host.run(f"DROP TRIGGER IF EXISTS {ident(f'envelope_{event}')} ON {view.sql}")


def drop_view(host: Host, view: Table) -> None:
    # Its defaults are dropped one by one.
    host.run(generate.stub(view.sql, view.columns))
    host.run(f"DROP VIEW {view.sql}")


def carryable(host: Host, view: Table, columns: Sequence[Column], graph: Graph, what: str) -> list[Dependent]:
    """Returns what depends on a view, of which these columns will stay. Raises Unsupported with a line for each
    dependent that needs more.
    """
    lost = [column.name for column in view.columns if column not in columns]
    found = dependents.losing(dependents.read(host, graph.nodes), len(columns), lost)
    obstacles = dependents.unserved(host, view, columns, graph, found)
    if obstacles:
        raise errors.Unsupported(
            f"{view.sql} cannot be {what} as it is; nothing was changed",
            detail="\n".join(f"- {obstacle}" for obstacle in obstacles),
            hint="Drop or change the listed objects, then call it again.",
        )
    return found


def _restore(host: Host, base: Table, view: Table, layout: Layout, acl: list[dict[str, object]]) -> None:
    """Gives back to the table what protect() moved to the view: storage, defaults, CHECK constraints, comments,
    privileges.
    """
    table = qualified(layout.schema, view.name)
    owner = AsOwner(host, base.owner_oid)
    defaults = [
        set_default(column.name, column.default)
        for column in view.columns
        if column.name in layout.protected and column.default is not None
    ]
    if defaults:
        owner.run(f"ALTER TABLE {table} {commas(defaults)}")
    if stored := list(_stored(layout)):
        host.run(f"ALTER TABLE {table} {commas(stored)}")
    now = inspect.inspect(host, base.oid)
    there = {check.name for check in now.checks}
    for check in layout.checks:
        if check.name not in there:
            add_check(owner, table, check, validated=check.validated)
        if check.comment is not None:
            grants.comment(host, f"CONSTRAINT {ident(check.name)} ON {table}", check.comment)
    _restore_comments(host, now, view, table)
    names = {None, *(column.name for column in now.columns)}
    grants.give(host, base.oid, table, [row for row in acl if row["column"] in names])
    if layout.as_caller:
        for statement in sequence_grants(base, acl, "REVOKE", "FROM"):
            host.run(statement)


def _stored(layout: Layout) -> Iterator[str]:
    for name, protected in layout.protected.items():
        yield f"ALTER {ident(name)} SET STORAGE {STORAGE[protected.column.storage]}"
        yield from set_compression(protected.column)


def restore_indexes(host: Host, base: Table, table: str, layout: Layout) -> None:
    """Makes the indexes again for which tokens stood in. `table` is the name that the base table has now."""
    indexes = stand_ins.missing(host, layout, base.oid, table)
    if indexes:
        with protecting.usable(host, base):
            for index in indexes:
                _restore_index(host, AsOwner(host, base.owner_oid), index, layout.schema, table)
    partition_indexes.rename(host, base.oid, carried.recorded(host, layout.key_uuid))


def _restore_references(
    host: Host, base: Table, layout: Layout, references: Sequence[tuple[ForeignKey, PlainKey]]
) -> None:
    """Makes foreign keys on values again. One whose other table is still protected waits for that."""
    ready = carried.waiting(host, layout.key_uuid)
    for reference, key in references:
        other = {reference.table, reference.target} - {base.oid}
        if other:
            carried.wait(host, str(catalog.key_of(host, other.pop())["key_uuid"]), key)
            host.warning(f"foreign key {key.name} is not checked until its other table is unprotected, too")
        else:
            ready.append(key)
    for key in ready:
        _try_back(host, AsOwner(host, base.owner_oid), key.name, key.statement, key.settings())


def _restore_index(host: Host, owner: AsOwner, index: Carried, schema: str, table: str) -> None:
    statement, settings = index.restore(table), index.settings(schema, table)
    if isinstance(index, Index):
        _put_back(host, owner, statement, settings)
    else:
        _try_back(host, owner, index.name, statement, settings)


def _try_back(host: Host, owner: AsOwner, name: str, statement: str, settings: list[str]) -> None:
    """Puts back what may not fit any more: it names columns that may be renamed now, or rows may violate it."""
    try:
        with host.subtransaction():
            _put_back(host, owner, statement, settings)
    except Exception as error:
        if getattr(error, "sqlstate", "57").startswith("57"):
            raise
        host.warning(f"{name} could not be put back", hint=f"As it was: {statement}")


def _put_back(host: Host, owner: AsOwner, statement: str, settings: list[str]) -> None:
    owner.run(statement)
    for setting in settings:
        host.run(setting)


def add_check(owner: AsOwner, table: str, check: Check, *, validated: bool) -> None:
    state = "" if validated else " NOT VALID" if check.enforced else " NOT ENFORCED"
    options = f"{' NO INHERIT' if check.no_inherit else ''}{state}"
    owner.run(f"ALTER TABLE {table} ADD CONSTRAINT {ident(check.name)} CHECK ({check.expression}){options}")


def _restore_comments(host: Host, base: Table, view: Table, table: str) -> None:
    """Takes the comments from the view: people see them there, and may have changed them."""
    if view.comment != base.comment:
        grants.comment(host, f"TABLE {table}", view.comment)
    for column in view.columns:
        known = base.column(column.name)
        if known is not None and known.comment != column.comment:
            grants.comment(host, f"COLUMN {table}.{ident(column.name)}", column.comment)
