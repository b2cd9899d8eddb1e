"""Clears the tokens of erased values. While the search key lives, a token could be tested against guesses."""

from __future__ import annotations

from pg_envelope.backend.host import Host
from pg_envelope.backend.search import references
from pg_envelope.backend.server import settings_kept
from pg_envelope.backend.sqltext import commas, ident, literal
from pg_envelope.backend.tables import catalog, inspect
from pg_envelope.backend.tables.canonical import canonical
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.owner import AsOwner

TABLES = """
SELECT base FROM envelope_private.protected_table t WHERE t.scope_key = $1
    AND EXISTS (SELECT FROM envelope_private.field f JOIN envelope_private.search s USING (field_uuid)
        WHERE f.key_uuid = t.key_uuid)"""


def clear(host: Host, scope_key: str, scope: str | None) -> None:
    """Clears, in all tables that share the DEKs, the tokens of a tenant's or subject's rows, or of all rows."""
    for row in host.rows(TABLES, ["uuid"], [scope_key]):
        base = inspect.inspect(host, row["base"])
        layout = catalog.layout_of(host, catalog.key_of(host, base.oid), base)
        for key in references.drop_all(host, [base]):
            host.warning(f"foreign key {key.name} is dropped: the tokens that it compared are cleared")
        # The table's triggers do not fire for it.
        with settings_kept():
            host.setting("SET LOCAL session_replication_role = replica")
            AsOwner(host, base.owner_oid).run(_statement(layout, scope))


def _statement(layout: Layout, scope: str | None) -> str:
    empty = commas(f"{ident(name)} = NULL" for name in layout.searches)
    some = " OR ".join(f"t.{ident(name)} IS NOT NULL" for name in layout.searches)
    whose = ""
    if scope is not None and layout.scope_column is not None:
        whose = f" AND {canonical(layout.column(layout.scope_column), 't')} OPERATOR(pg_catalog.=) {literal(scope)}"
    return f"UPDATE {layout.base} t SET {empty} WHERE ({some}){whose}"
