"""Makes the view, its triggers and its rights over a base table; used by protect() and refresh()."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables import catalog, generate, grants, inspect
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.inspect import Column, Table
from pg_envelope.backend.tables.owner import AsOwner

FUNCTION_GRANTEES = """
SELECT DISTINCT pg_get_userbyid(a.grantee) AS name FROM pg_catalog.pg_proc p, aclexplode(p.proacl) a
WHERE p.oid = to_regprocedure($1) AND a.grantee NOT IN (0, p.proowner)"""

TRIGGER_FUNCTIONS = """
SELECT t.tgfoid::regprocedure::text AS function FROM pg_catalog.pg_trigger t
WHERE t.tgrelid = $1 AND t.tgname = ANY ('{envelope_insert,envelope_update,envelope_delete}')"""


def build(host: Host, table: Table, layout: Layout, acl: list[Row], shape: str | None) -> None:
    """A new view and triggers over the renamed base; `acl` and `shape` are what the table had, if known."""
    catalog.allow_owner(host, table)
    host.run(generate.view(layout))
    view_oid = inspect.relation_oid(host, layout.view)
    if shape not in (None, inspect.shape(host, view_oid)):
        raise errors.EnvelopeError(f"{layout.view} came out with other columns than its table; nothing was changed")
    host.rows("UPDATE envelope_private.key SET view = $2 WHERE base = $1::oid", ["oid", "oid"], [table.oid, view_oid])
    _hand_over(host, table, layout, view_oid, acl)
    if table.comment is not None:
        grants.comment(host, f"VIEW {layout.view}", table.comment)
    for column in table.columns:
        describe(host, table, layout, column)
    make_triggers(host, layout, table.owner)


def make_triggers(host: Host, layout: Layout, owner: str) -> None:
    for statement in generate.triggers(layout):
        host.run(statement)
    for event in generate.EVENTS:
        function = f"{layout.function(event)}()"
        host.run(f"ALTER FUNCTION {function} OWNER TO {ident(owner)}")
        # Default privileges may have let others in; who may EXECUTE it could hang it on a table of their own.
        for grantee in host.rows(FUNCTION_GRANTEES, ["text"], [function]):
            host.run(f"REVOKE ALL ON FUNCTION {function} FROM {ident(grantee['name'])}")


def trigger_functions(host: Host, view: int) -> set[str]:
    """The functions behind a view's triggers, whatever the view was called when they were made."""
    return {row["function"] for row in host.rows(TRIGGER_FUNCTIONS, ["oid"], [view])}


def describe(host: Host, table: Table, layout: Layout, column: Column) -> None:
    """The view's column gets the table column's comment and default."""
    if column.comment is not None:
        grants.comment(host, f"COLUMN {layout.view}.{ident(column.name)}", column.comment)
    if column.default is not None and not column.generated:
        # As the owner: reading a literal can run a domain's CHECK.
        default = f"ALTER VIEW {layout.view} ALTER {ident(column.name)} SET DEFAULT {column.default}"
        AsOwner(host, table.owner_oid).run(default)


def _hand_over(host: Host, table: Table, layout: Layout, view_oid: int, acl: list[Row]) -> None:
    """The view gets the table's owner and privileges; the base table only its owner's, or all under row security."""
    host.run(f"ALTER VIEW {layout.view} OWNER TO {ident(table.owner)}")
    grants.give(host, view_oid, layout.view, acl)
    grant_base(host, table, layout, view_oid)


def grant_base(host: Host, table: Table, layout: Layout, view_oid: int) -> None:
    """View and triggers reach the base table with its owner's rights, which the owner may have revoked.

    Under row-level security they reach it, and its identity sequences, with their caller's.
    """
    if layout.by_role:
        acl = grants.read(host, view_oid)
        grants.give(host, table.oid, layout.base, acl)
        for statement in sequence_grants(table, acl, "GRANT", "TO"):
            host.run(statement)
    else:
        grants.revoke_all(host, table.oid, layout.base, keep=table.owner)
        host.run(f"GRANT ALL ON {layout.base} TO {ident(table.owner)}")


def sequence_grants(table: Table, acl: list[Row], verb: str, to: str) -> list[str]:
    """A table draws its identity for whoever may INSERT; a trigger that runs as its caller needs USAGE for that."""
    grantees = {grants.role(row["grantee"]) for row in acl if row["privilege"] == "INSERT"} - {ident(table.owner)}
    return [
        f"{verb} USAGE ON SEQUENCE {column.sequence} {to} {grantee}"
        for column in table.columns
        if column.identity
        for grantee in sorted(grantees)
    ]
