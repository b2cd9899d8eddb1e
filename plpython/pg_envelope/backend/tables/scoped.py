"""Records the scope of a table in tenant or subject scope, for protect()."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.host import Host
from pg_envelope.backend.tables import catalog
from pg_envelope.backend.tables.options import Scoping

SHARED = """
SELECT k.kek, k.store FROM envelope_private.key k WHERE k.key_uuid = $1"""
# The counter of messages under the DEKs is made now. Later it would be made in the middle of a write.
RECORD = """
UPDATE envelope_private.key SET scope = $2, scope_column = $3, erased = $5,
    scope_of = (SELECT coalesce(o.scope_of, o.key_uuid) FROM envelope_private.key o WHERE $4 IN (o.base, o.view))
WHERE key_uuid = $1 RETURNING scope <> 'table' AND envelope_private.count_from(coalesce(scope_of, key_uuid)) >= 0"""
SEALS = "SELECT envelope_private.renew_seal(field_uuid) FROM envelope_private.field WHERE key_uuid = $1"


def shared(host: Host, scoping: Scoping, kek: str, store: str | None) -> tuple[str, str]:
    """Returns KEK and store of the table whose DEKs are to be shared. Raises NotProtected, BadInput."""
    other = catalog.key_of(host, scoping.of or 0)
    if other["scope"] != scoping.kind:
        raise errors.BadInput(f"{other['view_name']} is not in {scoping.kind} scope: it has no DEKs to share")
    row = host.row(SHARED, ["uuid"], [other["scope_key"]])
    if row is None:
        raise errors.Internal
    if kek not in ("default", row["kek"]) or store not in (None, row["store"]):
        raise errors.BadInput(
            "scope_of shares the DEKs of another table, and so its KEK and store",
            detail=f"{other['view_name']}: KEK {row['kek']}, store {row['store']}",
        )
    return row["kek"], row["store"]


def record(host: Host, key_uuid: str, scoping: Scoping) -> None:
    """Records the scope. Seals of tenants and subjects name no key, so they are made now."""
    host.rows(
        RECORD,
        ["uuid", "text", "name", "oid", "text"],
        [key_uuid, scoping.kind, scoping.column, scoping.of or 0, scoping.erased],
    )
    if scoping.kind != "table":
        renew_seals(host, key_uuid)


def renew_seals(host: Host, key_uuid: str) -> None:
    host.rows(SEALS, ["uuid"], [key_uuid])
