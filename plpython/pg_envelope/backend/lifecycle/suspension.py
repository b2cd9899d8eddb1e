"""revoke() and restore(): the DEKs of a table, tenant or named key neither open nor seal until they are given back."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.keys import Keys, Transition
from pg_envelope.backend.lifecycle.batches import ONE_BY_ONE

# Older and newer versions alike: what a suspended tenant wrote long ago must not open, either.
SUSPEND = """
UPDATE envelope_private.dek SET state = 'suspended', suspended_from = state, state_since = now()
WHERE key_uuid = $1 AND scope IS NOT DISTINCT FROM $2 AND state NOT IN ('suspended', 'destroyed')
RETURNING dek_id, suspended_from AS before, state AS after"""
RESTORE = """
UPDATE envelope_private.dek d SET state = d.suspended_from, suspended_from = NULL, state_since = now()
WHERE d.key_uuid = $1 AND d.scope IS NOT DISTINCT FROM $2 AND d.state = 'suspended'
RETURNING d.dek_id, 'suspended' AS before, d.state AS after"""
LEFT = """
SELECT count(*) AS count FROM envelope_private.dek
WHERE key_uuid = $1 AND scope IS NOT DISTINCT FROM $2 AND state <> 'destroyed'"""
XID = "SELECT pg_current_xact_id()::text::bigint AS xid"
# After the commit: whose snapshot shows this transaction also shows those before it, since they come one by one.
TELL = "SELECT setval('envelope_private.suspension_xid', greatest(last_value, $1)) FROM envelope_private.suspension_xid"


class Suspension(Keys):
    """Commits, and then empties all caches; called again after a crash in between, it does what was left."""

    def suspend(self, action: str, key_uuid: str, scope: str | None, reason: str) -> None:
        xid = self._change(action, SUSPEND, key_uuid, scope, reason)
        self._host.run(ONE_BY_ONE)
        self._host.rows(TELL, ["bigint"], [xid])
        self._host.commit()
        try:
            self._link.ask("flush", self._loader.who(), reason=reason)
        except errors.EnvelopeError as error:
            error.detail = "The key is suspended; sessions that hold it use it until their time is over."
            error.hint = f"{error.hint or ''} Then call {action}() again.".strip()
            raise

    def restore(self, action: str, key_uuid: str, scope: str | None) -> None:
        self._change(action, RESTORE, key_uuid, scope, "")

    def _change(self, action: str, update: str, key_uuid: str, scope: str | None, reason: str) -> int:
        """The xid of the transaction that did it, and is committed."""
        # Several DEKs are written: not at the same time as a batch of rewrap() or rotate_emergency().
        self._host.run(ONE_BY_ONE)
        label = self._lock(key_uuid)
        left = self._host.row(LEFT, ["uuid", "text"], [key_uuid, scope])
        if not (left and left["count"]):
            raise errors.KeyNotFound("there is no such key to suspend or restore", hint="envelope.keys lists the keys.")
        changed = self._host.rows(update, ["uuid", "text"], [key_uuid, scope])
        transitions: list[Transition] = [
            {"dek_id": row["dek_id"], "from": row["before"], "to": row["after"]} for row in changed
        ]
        if transitions:
            self._record(action, label, transitions, reason)
        xid = self._host.row(XID)
        self._host.commit()
        self._host.notice(f"{action}: {len(changed)} of {left['count']} key versions of {label}")
        return int(xid["xid"] if xid else 0)
