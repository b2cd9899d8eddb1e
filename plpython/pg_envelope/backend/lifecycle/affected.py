"""Counts the rows that an erasure would reach. A person wants to know that before keys are destroyed."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.tables import catalog, inspect
from pg_envelope.backend.tables.canonical import canonical
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.backend.tables.scope_values import ScopeColumn

# In tenant and subject scope other tables may share the keys.
TABLES = """
SELECT o.base FROM envelope_private.protected_table t JOIN envelope_private.protected_table o
    ON o.base = t.base OR o.scope_key = t.scope_key AND t.scope <> 'table'
WHERE $1 IN (t.base, t.view) ORDER BY o.base"""


def affected(host: Host, oid: int, subject: str | None) -> list[Row]:
    """Returns relation and row_count for each table whose keys shred() would destroy. Raises NotProtected."""
    scoped = catalog.key_of(host, oid)["scope"] != "table"
    if scoped != (subject is not None):
        raise errors.BadInput("a tenant or subject is for tables that have a key for each of them")
    texts = [] if subject is None else ScopeColumn.of(host, oid).known_or_new(subject)
    return [_counted(host, row["base"], texts) for row in host.rows(TABLES, ["oid"], [oid])]


def _counted(host: Host, base_oid: int, subject: list[str]) -> Row:
    base = inspect.inspect(host, base_oid)
    key = catalog.key_of(host, base_oid)
    layout = catalog.layout_of(host, key, base)
    # It runs as the owner, because it may run an index or output function that belongs to the owner.
    count = AsOwner(host, base.owner_oid).count(*_query(layout, subject))
    return {"relation": key["view_name"] or layout.base, "row_count": count}


def _query(layout: Layout, subject: list[str]) -> tuple[str, list[str], list[list[str]]]:
    """Returns the query. The texts of the subject are a parameter, so that no log has them."""
    counted = f"SELECT count(*) AS found FROM {layout.base} t"
    if layout.scope_column is None or not subject:
        return counted, [], []
    text = canonical(layout.column(layout.scope_column), "t")
    return f"{counted} WHERE {text} OPERATOR(pg_catalog.=) ANY ($1)", ["text[]"], [subject]
