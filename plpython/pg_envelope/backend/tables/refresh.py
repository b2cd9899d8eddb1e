"""refresh(): the view and triggers again, after the base table gained or renamed columns, or changed its owner."""

from __future__ import annotations

from pg_envelope.backend.host import Host
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables import build, catalog, generate, grants, inspect

RENAMED = """
SELECT v.attname AS old, b.attname AS new
FROM pg_catalog.pg_attribute b JOIN envelope_private.field f ON f.attnum = b.attnum AND f.key_uuid = $3
JOIN pg_catalog.pg_attribute v ON v.attrelid = $2 AND v.attname = f.attname
WHERE b.attrelid = $1 AND b.attname <> f.attname"""


def refresh(host: Host, oid: int) -> None:
    """Raises NotProtected; PostgreSQL's own error when the view cannot take the change in place."""
    key = catalog.key_of(host, oid)
    table = inspect.inspect(host, key["base"])
    before = inspect.inspect(host, key["view"])
    layout = catalog.layout_of(host, key, table)
    for row in host.rows(RENAMED, ["oid", "oid", "uuid"], [key["base"], key["view"], key["key_uuid"]]):
        host.run(f"ALTER VIEW {layout.view} RENAME COLUMN {ident(row['old'])} TO {ident(row['new'])}")
    catalog.rename_fields(host, key["key_uuid"], key["base"])
    catalog.allow_owner(host, table.owner, table.owner_is_superuser)
    host.run(generate.view(layout))
    host.run(f"ALTER VIEW {layout.view} OWNER TO {ident(table.owner)}")
    for column in table.columns:
        if before.column(column.name) is None and column.name not in layout.protected:
            build.describe(host, layout, column)
    build.make_triggers(host, layout, table.owner)
    if not layout.by_role:
        grants.revoke_all(host, table.oid, layout.base, keep=table.owner)
    host.rows(
        "SELECT envelope_private.renew_seal(field_uuid) FROM envelope_private.field WHERE key_uuid = $1",
        ["uuid"],
        [key["key_uuid"]],
    )
