"""Replaces the keys of one tenant or subject, or of all, in committed batches. The old keys become compromised."""

from __future__ import annotations

import time

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.lifecycle import makers
from pg_envelope.backend.lifecycle.batches import NOTICE_SECONDS, ONE_BY_ONE
from pg_envelope.backend.link import Link
from pg_envelope.backend.scope_keys import ScopeKeys

WHAT = "rotate_emergency"
# Two requests to the KMS make so many DEKs. One lock table and one line of the audit log hold them with ease.
BATCH = 200
# Sessions forget the spares that they keep, too.
DROP_SPARES = "SELECT envelope_private.drop_spares(of_key => $1)"
# This statement waits for a session that is taking a spare.
DROP_TAKEN = "DELETE FROM envelope_private.spare_dek WHERE key_uuid = $1 AND dek_id <= $2"
# The sequence may be behind its tables.
NEWEST_ID = """
SELECT greatest(last_value, (SELECT max(dek_id) FROM envelope_private.dek),
    (SELECT max(dek_id) FROM envelope_private.spare_dek)) AS id FROM envelope_private.dek_id_seq"""
# DEK ids only grow: one that is higher was made after the emergency began.
PAGE = """
SELECT DISTINCT scope FROM envelope_private.dek
WHERE key_uuid = $1 AND scope IS NOT NULL AND ($2 IS NULL OR scope > $2) AND dek_id <= $3
    AND version > 0 AND coalesce(suspended_from, state) NOT IN ('compromised', 'destroyed')
ORDER BY scope LIMIT $4"""
LOCK_ALL = """
SELECT pg_advisory_xact_lock(hashtextextended($1::text || ' ' || scope, 0)) FROM unnest($2::text[]) AS s (scope)"""
OLD = """
SELECT dek_id, scope, state FROM envelope_private.dek
WHERE key_uuid = $1 AND scope = ANY ($2) AND dek_id <= $3 AND version > 0 AND state <> 'destroyed'"""


class ScopeEmergency(ScopeKeys):
    """Works for one table's key, and commits every batch. A suspended version stays suspended, and is compromised
    afterwards.
    """

    def __init__(self, host: Host, link: Link, key: Row, reason: str) -> None:
        super().__init__(host, link)
        self._owner, self._kind, self._reason = str(key["scope_key"]), key["scope"], reason
        self._label = str(key["view_name"] or key["base_name"])
        self._renewed = self._suspended = 0
        self._told = time.monotonic()

    def run(self, scopes: list[str] | None) -> None:
        """Replaces the keys of one tenant or subject, by its texts, or of all. The caller commits the last batch.

        Raises KeyNotFound, KeyDestroyed or KeySuspended for one, StillMaking for all.
        """
        if scopes is None:
            self._all()
        else:
            self._one(scopes)
        held = f"; {self._suspended} are suspended, and come back compromised" if self._suspended else ""
        self._host.notice(
            f"{WHAT}: new writes of {self._renewed} {self._kind}s use new keys; their old ones are compromised{held}",
            hint="If this ends early: CALL envelope.reencrypt(...) goes on.",
        )

    def _one(self, scopes: list[str]) -> None:
        if None in [self.active(self._owner, scope) for scope in scopes]:
            raise errors.KeyNotFound(
                f"there is no such {self._kind} with an active key", hint="envelope.keys lists them, in column scope."
            )
        newest = self._forget_spares()
        self._host.rows(DROP_TAKEN, ["uuid", "int8"], [self._owner, newest])
        self._batch_of(scopes, newest)

    def _all(self) -> None:
        """Waits until every DEK of a transaction under way is visible here. Then every key from before is known."""
        newest, last = self._forget_spares(), None
        self._host.commit()
        makers.wait(self._host, self._host.commit, WHAT)
        self._host.rows(DROP_TAKEN, ["uuid", "int8"], [self._owner, newest])
        self._host.commit()
        self._host.run(ONE_BY_ONE)
        while page := self._page(last, newest):
            self._tried(page, newest)
            last = page[-1]

    def _forget_spares(self) -> int:
        """Drops the spares. Returns a DEK id: every DEK above it is made after this moment."""
        self._host.rows(DROP_SPARES, ["uuid"], [self._owner])
        row = self._host.row(NEWEST_ID)
        return int(row["id"]) if row else 0

    def _page(self, last: str | None, newest: int) -> list[str]:
        types = ["uuid", "text", "int8", "int4"]
        return [row["scope"] for row in self._host.rows(PAGE, types, [self._owner, last, newest, BATCH])]

    def _tried(self, page: list[str], newest: int) -> None:
        try:
            self._batch_of(page, newest)
        except errors.EnvelopeError as error:
            done = f"{self._renewed} {self._kind}s had new keys before"
            error.detail = f"{error.detail}; {done}" if error.detail else done
            error.hint = f"{error.hint or ''} Then call {WHAT}() again.".strip()
            raise
        self._host.commit()
        # The lock comes before the first snapshot: a batch of rewrap() writes several DEKs, in another order.
        self._host.run(ONE_BY_ONE)
        if time.monotonic() - self._told > NOTICE_SECONDS:
            self._host.notice(f"{WHAT}: {self._renewed} {self._kind}s have new keys")
            self._told = time.monotonic()

    def _batch_of(self, scopes: list[str], newest: int) -> None:
        self._host.rows(LOCK_ALL, ["uuid", "text[]"], [self._owner, scopes])
        old = self._host.rows(OLD, ["uuid", "text[]", "int8"], [self._owner, scopes, newest])
        active = [row["scope"] for row in old if row["state"] == "active"]
        changes = self.renew(self._owner, sorted(active), self._label)
        changes += self._marked([row["dek_id"] for row in old])
        self._record(WHAT, self._label, changes, self._reason)
        self._renewed += len(active)
        self._suspended += len({row["scope"] for row in old if row["state"] == "suspended"})
