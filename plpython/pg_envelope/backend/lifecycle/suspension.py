"""Carries out suspend() and unsuspend(): suspended DEKs of a table, tenant or named key neither open nor seal."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.keys import Keys, Transition
from pg_envelope.backend.lifecycle import revocation
from pg_envelope.backend.lifecycle.batches import ONE_BY_ONE

# All versions are suspended, because the old values of a suspended tenant must not open, either.
SUSPEND = """
UPDATE envelope_private.dek SET state = 'suspended', suspended_from = state, state_since = now()
WHERE key_uuid = $1 AND scope IS NOT DISTINCT FROM $2 AND state NOT IN ('suspended', 'destroyed')
RETURNING dek_id, suspended_from AS before, state AS after"""
# A version that retire() suspended comes back by its number only.
UNSUSPEND = """
UPDATE envelope_private.dek d
SET state = d.suspended_from, suspended_from = NULL, is_retired = false, state_since = now()
WHERE d.key_uuid = $1 AND d.scope IS NOT DISTINCT FROM $2 AND d.state = 'suspended'
    AND CASE WHEN $3 IS NULL THEN NOT d.is_retired ELSE d.version = $3 END
RETURNING d.dek_id, 'suspended' AS before, d.state AS after"""
RETIRED = """
SELECT string_agg(version::text, ', ' ORDER BY version) AS versions FROM envelope_private.dek
WHERE key_uuid = $1 AND scope IS NOT DISTINCT FROM $2 AND state = 'suspended' AND is_retired"""
LEFT = """
SELECT count(*) AS count FROM envelope_private.dek
WHERE key_uuid = $1 AND scope IS NOT DISTINCT FROM $2 AND state <> 'destroyed'"""
# This runs after the commit. A snapshot that shows this transaction also shows those before it, because they run one by
# one.
TELL = "SELECT setval('envelope_private.suspension_xid', greatest(last_value, $1)) FROM envelope_private.suspension_xid"


class Suspension(Keys):
    """Commits, and then empties all caches. When a crash came in between, the next call does what was left."""

    def suspend(self, action: str, key_uuid: str, scope: str | None, reason: str) -> None:
        xid = self._change(action, key_uuid, scope, reason, SUSPEND)
        self._host.run(ONE_BY_ONE)
        self._host.rows(TELL, ["int8"], [xid])
        revocation.tell(self._host, xid)
        try:
            self._link.ask("flush", reason=reason)
        except errors.EnvelopeError as error:
            error.detail = (
                "The key is suspended. A session that holds it may use it until the key's time in the session is over."
            )
            error.hint = f"{error.hint or ''} Then call {action}() again.".strip()
            raise

    def unsuspend(self, action: str, key_uuid: str, scope: str | None, version: int | None = None) -> None:
        """Brings back the suspended versions that are not retired, or the version of this number, retired or not."""
        self._change(action, key_uuid, scope, "", UNSUSPEND, ("int4", version))
        left = self._host.row(RETIRED, ["uuid", "text"], [key_uuid, scope])
        if left and left["versions"]:
            self._host.notice(
                f"{action}: retired versions stay suspended: {left['versions']}",
                hint="CALL envelope.unsuspend(..., version => N) makes one usable again.",
            )

    def _change(
        self, action: str, key_uuid: str, scope: str | None, reason: str, update: str, *more: tuple[str, object]
    ) -> int:
        """Returns the xid of the committed transaction that changed the versions. `more`: types and values for the
        update.
        """
        # This writes several DEKs, so it must not run at the same time as a batch of rewrap() or rotate_emergency().
        self._host.run(ONE_BY_ONE)
        label = self._lock(key_uuid)
        left = self._host.row(LEFT, ["uuid", "text"], [key_uuid, scope])
        if not (left and left["count"]):
            raise errors.KeyNotFound(
                "there is no such key to suspend or unsuspend", hint="envelope.keys lists the keys."
            )
        types, values = [kind for kind, _ in more], [value for _, value in more]
        changed = self._host.rows(update, ["uuid", "text", *types], [key_uuid, scope, *values])
        transitions: list[Transition] = [
            {"dek_id": row["dek_id"], "from": row["before"], "to": row["after"]} for row in changed
        ]
        if transitions:
            self._record(action, label, transitions, reason)
        xid = revocation.mark(self._host)
        self._host.commit()
        self._host.notice(f"{action}: {len(changed)} of {left['count']} key versions of {label}")
        return xid
