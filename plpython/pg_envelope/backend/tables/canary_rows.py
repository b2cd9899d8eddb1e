"""Lets the package's own jobs and trials leave canaries out: they read values, and show them to nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pg_envelope.backend.host import Host
from pg_envelope.backend.sqltext import commas, ident, literal
from pg_envelope.backend.tables.generate import Layout

KEY_IDS = """
SELECT encode(substr(int8send(fk.key_id), 5), 'hex') AS id FROM envelope_private.field_key fk
JOIN envelope_private.dek d USING (dek_id) WHERE d.key_uuid = $1 AND d.version < 0"""
# A row whose key column has another name now is not found by it.
ROWS = """
SELECT c.row_key::text AS row_key FROM envelope_private.canary c JOIN envelope_private.key k USING (key_uuid)
WHERE k.base = $1::oid AND NOT EXISTS (
    SELECT FROM jsonb_object_keys(c.row_key) AS n (name) WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = k.view AND a.attname = n.name AND a.attnum > 0))"""


HAS = "SELECT count(*) AS found FROM envelope_private.canary WHERE key_uuid = $1"


def obstacles(host: Host, key_uuid: str) -> Iterator[str]:
    """Yields why single columns of a table cannot be protected or made plain: a canary has all of them or none."""
    (row,) = host.rows(HAS, ["uuid"], [key_uuid])
    if row["found"]:
        yield f"canaries have keys of their own, and the table has {row['found']}: remove them first"


def of_base(host: Host, layout: Layout, owner_key: str) -> str:
    """Returns an SQL condition, behind another one, for the rows of the base table `t` that are no canaries."""
    found = commas(literal(f"\\x{row['id']}") for row in host.rows(KEY_IDS, ["uuid"], [owner_key]))
    if not found:
        return ""
    values = (f"substr(envelope_internal.readable(t.{ident(name)}), 3, 4)" for name in layout.protected)
    return "".join(f" AND ({value} IN ({found})) IS NOT TRUE" for value in values)


def of_view(host: Host, base: int) -> str:
    """Returns a WHERE clause for the rows of a view that are no canaries. It opens no value."""
    conditions = [_is_row(json.loads(row["row_key"])) for row in host.rows(ROWS, ["oid"], [base])]
    return f" WHERE NOT ({' OR '.join(conditions)})" if conditions else ""


def _is_row(row_key: dict[str, str]) -> str:
    return " AND ".join(
        f"envelope_internal.canonical({ident(name)}) OPERATOR(pg_catalog.=) {literal(text)}"
        for name, text in row_key.items()
    )
