"""Carries out adopt_restored(): takes a protected table back under its keys after it was dropped and restored from a
dump.
"""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.sqltext import derived_name, ident
from pg_envelope.backend.tables import inspect
from pg_envelope.backend.tables.inspect import Table
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.backend.tables.refresh import refresh

# So many envelopes are enough to tell one table's from another's, and are quickly read in a large table.
LOOKED_AT = 100
KNOWN = "SELECT FROM envelope_private.key WHERE $1 IN (base, view)"
# Finds the table itself, or the table below a view.
BASES = """
SELECT c.oid FROM pg_catalog.pg_class c
WHERE c.relkind IN ('r', 'p') AND (c.oid = $1 OR c.oid IN (
        SELECT d.refobjid FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
        WHERE w.ev_class = $1 AND d.refclassid = 'pg_class'::regclass))
    AND EXISTS (SELECT FROM pg_catalog.pg_attribute a
                WHERE a.attrelid = c.oid AND a.atttypid = 'envelope.ciphertext'::regtype AND NOT a.attisdropped)"""
VIEWS = """
SELECT v.oid, v.relname AS name FROM pg_catalog.pg_class b JOIN pg_catalog.pg_class v
    ON v.relnamespace = b.relnamespace AND v.relkind = 'v'
WHERE b.oid = $1 AND EXISTS (
    SELECT FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
    WHERE w.ev_class = v.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = b.oid)"""
CANDIDATES = """
SELECT key_uuid::text, row_key, scope, scope_column, owner::text, created_at::text
FROM envelope_private.lost_table WHERE restored = $1 AND ($2 IS NULL OR key_uuid = $2) ORDER BY created_at"""
# True when each envelope's key is one of the column's, or of the tenants' or subjects' of the table.
FOREIGN = """
SELECT count(*) AS found FROM unnest($3::bigint[]) AS seen (key_id)
WHERE NOT EXISTS (
    SELECT FROM envelope_private.field_key fk JOIN envelope_private.dek d USING (dek_id)
    LEFT JOIN envelope_private.field f USING (field_uuid)
    WHERE fk.key_id = seen.key_id
        AND CASE WHEN fk.field_uuid IS NULL THEN d.key_uuid = $4 ELSE f.key_uuid = $1 AND f.attname = $2 END)"""
TAKE_BACK = "UPDATE envelope_private.key SET base = $2, view = $3 WHERE key_uuid = $1"
COLUMNS = """
UPDATE envelope_private.field f SET attnum = a.attnum FROM pg_catalog.pg_attribute a
WHERE f.key_uuid = $1 AND a.attrelid = $2 AND a.attname = f.attname AND NOT a.attisdropped"""


def adopt_restored(host: Host, oid: int, key_uuid: str | None) -> None:
    """Takes a table back by its view or base table, and makes view and triggers again as refresh() does.

    Raises AlreadyProtected, KeyNotFound when no key fits, BadInput when several do or a primary key is missing.
    """
    base = _base(host, oid)
    host.run(f"LOCK TABLE {base.sql} IN ACCESS EXCLUSIVE MODE")
    if host.rows(KNOWN, ["oid"], [base.oid]):
        raise errors.AlreadyProtected("the catalog knows this table", hint="CALL envelope.refresh(...) mends its view.")
    found = _only(
        [key for key in host.rows(CANDIDATES, ["oid", "uuid"], [base.oid, key_uuid]) if _fits(host, base, key)]
    )
    _refuse_incomplete(base, found)
    values = [found["key_uuid"], base.oid, _view(host, base)]
    host.rows(TAKE_BACK, ["uuid", "oid", "oid"], values)
    host.rows(COLUMNS, ["uuid", "oid"], values[:2])
    refresh(host, base.oid)
    host.notice(
        f"adopt_restored: {base.sql} has its keys back",
        hint="Values that were written after the dump are not in it. SELECT count(column) reads every value.",
    )


def _view(host: Host, base: Table) -> int | None:
    """Returns the view over the base table that has the name from which protect() made the table's name."""
    views = host.rows(VIEWS, ["oid"], [base.oid])
    return next((view["oid"] for view in views if derived_name(view["name"], "_encrypted") == base.name), None)


def _base(host: Host, oid: int) -> Table:
    rows = host.rows(BASES, ["oid"], [oid])
    if len(rows) != 1:
        raise errors.NotProtected(
            "this is no table with encrypted columns, nor a view over one",
            hint="Restore the table whose name ends in _encrypted, and its view; then name one of the two.",
        )
    return inspect.inspect(host, rows[0]["oid"])


def _fits(host: Host, base: Table, key: Row) -> bool:
    """Looks at envelopes as the table's owner, who could have put anything in its place."""
    owner = AsOwner(host, base.owner_oid)
    return not any(_foreign(host, owner, base, key, column) for column in _encrypted(host, base))


def _encrypted(host: Host, base: Table) -> list[str]:
    columns = "SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND NOT attisdropped"
    types = " AND atttypid = 'envelope.ciphertext'::regtype ORDER BY attnum"
    return [str(row["attname"]) for row in host.rows(columns + types, ["oid"], [base.oid])]


def _foreign(host: Host, owner: AsOwner, base: Table, key: Row, column: str) -> bool:
    name = ident(column)
    seen = owner.rows(
        f"SELECT DISTINCT s.id FROM (SELECT encode(substr(t.{name}, 3, 4), 'hex') AS id FROM {base.sql} t"
        f" WHERE t.{name} IS NOT NULL LIMIT {LOOKED_AT}) s"
    )
    ids = [int(row["id"], 16) for row in seen]
    values = [key["key_uuid"], column, ids, key["owner"]]
    row = host.row(FOREIGN, ["uuid", "name", "int8[]", "uuid"], values)
    return bool(row and row["found"])


def _only(fitting: list[Row]) -> Row:
    if not fitting:
        raise errors.KeyNotFound(
            "no key of a dropped table fits this one",
            detail="It must have the encrypted columns that the table had, and envelopes under its keys.",
            hint="envelope.dropped_keys lists the keys of dropped tables. Is the old table still there, under"
            " another name? Then drop one of the two.",
        )
    if len(fitting) > 1:
        listed = ", ".join(f"{key['key_uuid']} (made {key['created_at']})" for key in fitting)
        raise errors.BadInput(
            "several keys of dropped tables fit this table, which holds no value that tells them apart",
            detail=listed,
            hint="CALL envelope.adopt_restored(..., key => '...') names one.",
        )
    return fitting[0]


def _refuse_incomplete(base: Table, key: Row) -> None:
    """Refuses a table without its primary key: pg_restore --table leaves constraints out, and values are bound to the
    key.
    """
    wanted = list(key["row_key"])
    if wanted and set(wanted) != set(base.primary_key):
        raise errors.BadInput(
            f"{base.sql} has not the primary key that its values are bound to: {', '.join(wanted)}",
            detail="pg_restore --table does not restore constraints.",
            hint=f"ALTER TABLE {base.sql} ADD PRIMARY KEY ({', '.join(ident(name) for name in wanted)})",
        )
    if key["scope_column"] is not None and base.column(key["scope_column"]) is None:
        raise errors.BadInput(f"{base.sql} lacks the column of its tenants or subjects: {key['scope_column']}")
