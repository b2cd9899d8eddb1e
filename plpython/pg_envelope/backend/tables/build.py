"""Makes the view, its triggers and its rights over a base table; used by protect() and refresh()."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables import catalog, generate, grants, inspect
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.inspect import Column, Table


def build(host: Host, table: Table, layout: Layout, acl: list[Row], shape: str) -> None:
    """A new view and triggers over the renamed base; `acl` and `shape` are what the table had."""
    catalog.allow_owner(host, table.owner, table.owner_is_superuser)
    host.run(generate.view(layout))
    view_oid = inspect.relation_oid(host, layout.view)
    if inspect.shape(host, view_oid) != shape:
        raise errors.EnvelopeError(f"{layout.view} came out with other columns than its table; nothing was changed")
    host.rows("UPDATE envelope_private.key SET view = $2 WHERE base = $1::oid", ["oid", "oid"], [table.oid, view_oid])
    _hand_over(host, table, layout, view_oid, acl)
    if table.comment is not None:
        grants.comment(host, f"VIEW {layout.view}", table.comment)
    for column in table.columns:
        describe(host, layout, column)
    make_triggers(host, layout, table.owner)


def make_triggers(host: Host, layout: Layout, owner: str) -> None:
    for statement in generate.triggers(layout):
        host.run(statement)
    for event in generate.EVENTS:
        host.run(f"ALTER FUNCTION {layout.function(event)}() OWNER TO {ident(owner)}")


def describe(host: Host, layout: Layout, column: Column) -> None:
    """The view's column gets the table column's comment and default."""
    if column.comment is not None:
        grants.comment(host, f"COLUMN {layout.view}.{ident(column.name)}", column.comment)
    if column.default is not None and not column.generated:
        host.run(f"ALTER VIEW {layout.view} ALTER {ident(column.name)} SET DEFAULT {column.default}")


def _hand_over(host: Host, table: Table, layout: Layout, view_oid: int, acl: list[Row]) -> None:
    """The view gets the table's owner and privileges; the base table keeps its owner's, or all under row security."""
    host.run(f"ALTER VIEW {layout.view} OWNER TO {ident(table.owner)}")
    grants.revoke_all(host, view_oid, layout.view)
    grants.give(host, layout.view, table.owner, acl)
    if not layout.by_role:
        grants.revoke_all(host, table.oid, layout.base, keep=table.owner)
