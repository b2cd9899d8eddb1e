"""Follows the removal of protected columns, and of whole protected tables. Their keys stay, for old backups."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.search import carried, token_indexes
from pg_envelope.backend.search import keys as search_keys
from pg_envelope.backend.search.column import SearchColumn
from pg_envelope.backend.sqltext import commas, ident, qualified
from pg_envelope.backend.tables import catalog
from pg_envelope.backend.tables.generate.layout import RIGHTS_SCHEMA, input_name, rights_name
from pg_envelope.backend.tables.inspect import Table

FIELDS = """
SELECT field_uuid, attname, plain_column FROM envelope_private.field
WHERE key_uuid = $1 AND attname = ANY ($2::name[])"""
# The field leaves the table's key, which makes new versions for each of its fields. Its own versions still name their
# DEKs. In tenant and subject scope they belong to the other key, too.
APART = """
WITH apart AS (
    INSERT INTO envelope_private.key (kek, store, row_key, scope, scope_column, scope_of, erased)
    SELECT kek, store, row_key, scope, scope_column, CASE WHEN scope <> 'table' THEN coalesce(scope_of, key_uuid) END,
        erased
    FROM envelope_private.key WHERE key_uuid = $1 RETURNING key_uuid)
UPDATE envelope_private.field f SET key_uuid = apart.key_uuid, plain_column = NULL, in_rollout = false
FROM apart WHERE f.field_uuid = $2"""
NOT_WRITTEN = """
UPDATE envelope_private.field_key SET state = 'decrypt-only' WHERE field_uuid = $1 AND state = 'active'"""
FORGOTTEN = ("capability", "client_grant", "fault")


def columns(host: Host, key: Row, base: Table, dropped: Collection[str]) -> list[SearchColumn]:
    """Retires the fields of dropped columns, and drops what the base table has beside them.

    Returns the search columns that are gone with them, for forget().
    """
    searches: list[SearchColumn] = []
    for field in host.rows(FIELDS, ["uuid", "text[]"], [key["key_uuid"], list(dropped)]):
        found = _searches(host, key, base, field)
        _drop_beside(host, base, [*found, *filter(None, [field["plain_column"]]), input_name(field["attname"])])
        for search in found.values():
            search_keys.forget(host, field["field_uuid"], search.name)
        retire(host, key, field["field_uuid"])
        searches += found.values()
    return searches


def forget(host: Host, searches: list[SearchColumn]) -> None:
    """Drops the types that no column uses any more, when no view shows one."""
    search_keys.drop_unused(host, searches)


def rights(host: Host, key_uuid: str) -> None:
    """Drops the relation that handed capabilities to the view of a table without protected columns."""
    host.run(f"DROP MATERIALIZED VIEW IF EXISTS {qualified(RIGHTS_SCHEMA, rights_name(key_uuid))}")


def _searches(host: Host, key: Row, base: Table, field: Row) -> dict[str, SearchColumn]:
    sources = {str(field["field_uuid"]): field["attname"]}
    found = catalog.searches_of(host, str(key["key_uuid"]), base, sources)
    indexes = [index for name in found for index in token_indexes.names(host, base, name)]
    carried.forget_of(host, key["key_uuid"], field["attname"], indexes)
    return found


def _drop_beside(host: Host, base: Table, names: Iterable[str]) -> None:
    there = [name for name in names if base.column(name)]
    if there:
        host.run(f"ALTER TABLE {base.sql} {commas(f'DROP COLUMN {ident(name)}' for name in there)}")


def retire(host: Host, key: Row, field_uuid: str) -> None:
    """Takes a field from its table. What it has encrypted can be read with its key as before."""
    host.rows(APART, ["uuid", "uuid"], [key["key_uuid"], field_uuid])
    host.rows(NOT_WRITTEN, ["uuid"], [field_uuid])
    for table in FORGOTTEN:
        host.rows(f"DELETE FROM envelope_private.{table} WHERE field_uuid = $1", ["uuid"], [field_uuid])
