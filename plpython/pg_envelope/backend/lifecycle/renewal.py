"""Makes a new field key in the middle of a user's write, when the old one has sealed enough. It never waits."""

from __future__ import annotations

from pg_envelope.backend.host import Host
from pg_envelope.backend.keys import Keys
from pg_envelope.backend.link import Link

REASON = "message budget"
# SKIP LOCKED: another session that has locked the rows rotates, too, or will have rotated. Where
# session_replication_role switches triggers off, a new key would not reach the seals.
LOCKED = """
SELECT fk.field_uuid, fk.dek_id,
    coalesce(k.name, coalesce(k.view::text, k.base::text) || '.' || f.attname, 'dropped') AS label
FROM envelope_private.field_key fk
JOIN envelope_private.dek d USING (dek_id)
JOIN envelope_private.field f USING (field_uuid)
JOIN envelope_private.key k ON k.key_uuid = f.key_uuid
JOIN envelope_private.capability c USING (field_uuid)
WHERE fk.key_id = $1 AND fk.state = 'active' AND d.state = 'active'
    AND current_setting('session_replication_role') <> 'replica'
FOR UPDATE OF k, fk, c SKIP LOCKED"""
# This query is for tenant and subject scope. The lock is the one of backend/scope_keys.py.
LOCKED_SCOPE = """
SELECT coalesce(k.view::text, k.base::text, 'dropped') AS label
FROM envelope_private.field_key fk
JOIN envelope_private.dek d USING (dek_id)
JOIN envelope_private.key k USING (key_uuid)
WHERE fk.key_id = $1 AND fk.field_uuid IS NULL AND fk.state = 'active' AND d.state = 'active'
    AND pg_try_advisory_xact_lock(hashtextextended(d.key_uuid::text || ' ' || d.scope, 0))
FOR UPDATE OF fk SKIP LOCKED"""
# operator_intervention: a cancel, a timeout or a shutdown must end the statement.
ENDS_THE_STATEMENT = "57"


def renew(host: Host, link: Link, key_id: int) -> None:
    """Replaces an active field key by a new one. When anything stands in the way, the old key stays active."""
    keys = Keys(host, link)
    try:
        with host.subtransaction():
            if row := host.row(LOCKED, ["int8"], [key_id]):
                keys.renew_field_key(row["field_uuid"], row["dek_id"], row["label"], REASON)
            elif row := host.row(LOCKED_SCOPE, ["int8"], [key_id]):
                keys.renew_scope_key(key_id, row["label"], REASON)
    except Exception as error:
        if str(getattr(error, "sqlstate", "")).startswith(ENDS_THE_STATEMENT):
            raise
        host.warning("a key that has sealed many values could not be rotated; it stays in use", hint=HINT)


HINT = "It rotates itself at a later write, until it has sealed 2^32 - 2^28 values; or: SELECT envelope.rotate(...)."
