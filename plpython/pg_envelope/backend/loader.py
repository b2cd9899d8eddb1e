"""From a slot the keyring does not hold to a field key: check the right in the catalog, then ask the broker."""

from __future__ import annotations

import base64
from math import inf
from time import monotonic
from typing import cast

from pg_envelope import envelope, errors, wire
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.keyring import CAPABILITY_BYTES
from pg_envelope.backend.link import Link, not_understood
from pg_envelope.envelope import FieldKey
from pg_envelope.suites import KEY_BYTES

# Every name is qualified: it runs with the caller's search_path, and a caller must not choose what the audit log says.
WHO = """SELECT pg_catalog.current_database() AS database, session_user::pg_catalog.text AS role,
    current_user::pg_catalog.text AS acting, pg_catalog.inet_client_addr()::pg_catalog.text AS client,
    pg_catalog.current_setting('application_name') AS application, pg_catalog.pg_backend_pid() AS pid"""
LOAD = "SELECT envelope.load_key()"
KEY = "SELECT * FROM envelope_private.usable_key WHERE key_id = $1"
# The capability is compared here, never sent as a parameter: parameters can reach logs.
CAPABILITY = "SELECT capability FROM envelope_private.capability WHERE field_uuid = $1"
STALE_HINT = "If this role should read it: CALL envelope.refresh(...) after a change of owner or a partial restore."


class Loader:
    """Loads in two steps, because the catalog is readable only to the extension's owner:

    `load` runs as the caller and calls SQL's envelope.load_key(), which is SECURITY DEFINER and comes back to
    `load_pending`. Slot and key pass through this object: no argument and no result of SQL ever holds them.
    """

    def __init__(self, host: Host, link: Link) -> None:
        self._host = host
        self._link = link
        self._pending: tuple[bytes, wire.Who] | None = None
        self._loaded: FieldKey | None = None

    def load(self, slot: bytes) -> FieldKey:
        """The key of a slot, as the calling role. Raises NotPermitted, InvalidEnvelope or what the broker says."""
        self._pending = slot, self.who()
        try:
            self._host.rows(LOAD)
            if self._loaded is None:
                raise errors.Internal
            return self._loaded
        finally:
            self._pending = self._loaded = None

    def who(self) -> wire.Who:
        """The session and role that ask, for the audit log."""
        found = self._host.row(WHO)
        if found is None:
            raise errors.Internal
        return cast(wire.Who, found)

    def load_pending(self) -> None:
        """The half of `load` that runs as the extension's owner; does nothing unless `load` is under way."""
        if self._pending is None:
            raise errors.NotPermitted
        slot, who = self._pending
        row = self._catalog_row(slot)
        self._loaded = self._ask(slot[CAPABILITY_BYTES:], row, who)

    def _catalog_row(self, slot: bytes) -> Row:
        """The key catalog's row for a slot, once its capability is found to be the column's."""
        capability, head = slot[:CAPABILITY_BYTES], slot[CAPABILITY_BYTES:]
        row = self._host.row(KEY, ["bigint"], [envelope.key_id(head)]) if head[0] == envelope.VERSION else None
        known = row and self._host.row(CAPABILITY, ["uuid"], [row["field_uuid"]])
        if row is None or known is None or not _same(known["capability"], capability):
            raise self._refusal(capability)
        if row["state"] == "destroyed":
            raise errors.KeyDestroyed(detail=f"key {row['key_id']} of {row['label']}")
        if row["state"] == "suspended":
            raise errors.KeySuspended(detail=f"key {row['key_id']} of {row['label']}")
        return row

    def _refusal(self, capability: bytes) -> errors.EnvelopeError:
        """An unknown capability has no right; a known one met an envelope that is not its column's."""
        known = self._host.rows("SELECT capability FROM envelope_private.capability")
        if any(_same(row["capability"], capability) for row in known):
            return errors.InvalidEnvelope()
        return errors.NotPermitted(hint=STALE_HINT)

    def _ask(self, head: bytes, row: Row, who: wire.Who) -> FieldKey:
        response = self._link.ask("derive", who, database_uuid=row["database_uuid"], keys=[_request(row)])
        try:
            (answer,) = response["keys"]
            if "error" in answer:
                raise wire.error_from(answer["error"])
            key, ttl = base64.b64decode(answer["key"], validate=True), float(response["ttl"])
            if answer["key_id"] != row["key_id"] or len(key) != KEY_BYTES or not 0 <= ttl < inf:
                raise not_understood()
        except (LookupError, TypeError, ValueError, AttributeError):
            raise not_understood() from None
        return FieldKey(head, bytes.fromhex(row["field_uuid"].replace("-", "")), key, monotonic() + ttl)


def _same(left: bytes, right: bytes) -> bool:
    """Whether two secrets are equal, in a time that does not tell where they differ. hmac's takes 4 ms to import."""
    return len(left) == len(right) and int.from_bytes(left, "big") ^ int.from_bytes(right, "big") == 0


def _request(row: Row) -> wire.Dek:
    return {
        "dek_id": row["dek_id"],
        "kek": row["kek"],
        "store": row["store"],
        "wrapped": row["wrapped"],
        "fingerprint": base64.b64encode(row["fingerprint"]).decode(),
        "fields": [
            {
                "key_id": row["key_id"],
                "field_uuid": row["field_uuid"],
                "salt": base64.b64encode(row["salt"]).decode(),
                "label": row["label"],
            }
        ],
    }
