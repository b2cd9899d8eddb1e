"""Refuses a look through a table that cannot speak for all of its values."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.tables.generate import Layout

# For a field `f` and a table `t`. The condition finds columns by name, because after a restore the numbers may be
# others.
IS_FOUND = """
EXISTS (SELECT FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = t.base AND a.attname = f.attname AND NOT a.attisdropped
        AND a.atttypid = 'envelope.ciphertext'::regtype)"""
MISSING = f"""
SELECT string_agg(f.attname, ', ' ORDER BY f.attname) AS names,
    EXISTS (SELECT FROM envelope_private.key k WHERE k.key_uuid = $1 AND k.base = $2::oid) AS is_protected
FROM envelope_private.field f CROSS JOIN (SELECT $2::oid AS base) t
WHERE f.key_uuid = $1 AND NOT (f.attname = ANY ($3) AND {IS_FOUND})"""
HIDDEN = """
SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
WHERE (c.oid = $1 OR c.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree($1)))
    AND c.relrowsecurity AND c.relforcerowsecurity AND NOT (r.rolsuper OR r.rolbypassrls)"""


class ColumnMissing(errors.NotConfigured):
    sqlstate = "55000"


def refuse_missing(host: Host, key: Row, layout: Layout) -> None:
    """Raises ColumnMissing where a protected column is not found, because nobody can look at its values, and
    NotProtected when an unprotect() has just ended.
    """
    row = host.row(MISSING, ["uuid", "oid", "text[]"], [key["key_uuid"], key["base"], list(layout.protected)])
    if row and row["names"] and not row["is_protected"]:
        raise errors.NotProtected
    if row and row["names"]:
        raise ColumnMissing(
            f"protected columns of {layout.base} are not where the key catalog has them; nothing was changed",
            detail=f"no column of type envelope.ciphertext: {row['names']}",
            hint="Was a column renamed or dropped, or the table restored? CALL envelope.refresh(...), then try again.",
        )


def refuse_hidden(host: Host, key: Row, layout: Layout, what: str) -> None:
    """Raises Unsupported where the table's owner may not see all rows."""
    if host.row(HIDDEN, ["oid"], [key["base"]]):
        raise errors.Unsupported(
            f"row-level security with FORCE may hide rows of {layout.base} from {what}(), which runs as its owner",
            hint=f"ALTER TABLE {layout.base} NO FORCE ROW LEVEL SECURITY while {what}() runs.",
        )
