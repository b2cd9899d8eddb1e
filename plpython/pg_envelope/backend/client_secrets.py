"""Secrets that a client opens and seals itself: the server stores their envelopes, and never sees what is in them."""

from __future__ import annotations

import json

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.keys import Keys
from pg_envelope.backend.link import Link
from pg_envelope.backend.server import server
from pg_envelope.envelope import HEADER_BYTES, header

# A role that was granted the keys of a client, or a superuser. $1: the role; f: the field.
GRANTED = """
((SELECT r.rolsuper FROM pg_roles r WHERE r.oid = $1) OR EXISTS (
    SELECT FROM envelope_private.client_grant g
    WHERE g.field_uuid = f.field_uuid AND pg_has_role($1, g.role, 'USAGE')))"""
NEWEST_TWO = f"""
SELECT s.version, encode(s.sealed, 'hex') AS sealed, extract(epoch FROM now() - s.created_at)::float8 AS age
FROM envelope_private.secret s
JOIN envelope_private.key k USING (key_uuid) JOIN envelope_private.field f USING (key_uuid)
WHERE k.name = $2 AND f.bind = 'context' AND {GRANTED} ORDER BY s.version DESC LIMIT 2"""
NAMES = f"""
SELECT k.name FROM envelope_private.key k JOIN envelope_private.field f USING (key_uuid)
WHERE starts_with(k.name, $2) AND f.bind = 'context' AND {GRANTED}
    AND EXISTS (SELECT FROM envelope_private.secret s WHERE s.key_uuid = k.key_uuid) ORDER BY k.name"""
LOCK = f"""
SELECT k.key_uuid, f.field_uuid, f.suite, f.pad FROM envelope_private.key k
JOIN envelope_private.field f USING (key_uuid) WHERE k.name = $2 AND f.bind = 'context' AND {GRANTED} FOR UPDATE OF k"""
# A statement of its own, because it must see what was committed while LOCK waited.
STATE = """
SELECT coalesce((SELECT max(version) FROM envelope_private.secret WHERE key_uuid = $1), 0) AS newest,
    (SELECT key_id FROM envelope_private.usable_key WHERE field_uuid = $2 AND state = 'active') AS key_id"""
INSERT = "INSERT INTO envelope_private.secret (key_uuid, version, sealed) VALUES ($1, $2, $3)"
HINT = "envelope.grant_client_key(name, role) lets a role have a secret; docs/client.md says who may store one."


class ClientSecrets:
    """One method per SQL function. Each asks for the grant of the calling role."""

    def __init__(self, host: Host, link: Link) -> None:
        self._host, self._link = host, link

    def newest(self, name: str | None) -> str:
        """The two newest versions. Without the grant there is nothing, as without the secret."""
        return json.dumps([dict(row) for row in self._rows(NEWEST_TWO, name)])

    def names(self, prefix: str | None) -> str:
        """The secrets of the role whose names begin so."""
        return json.dumps([row["name"] for row in self._rows(NAMES, prefix)])

    def store(self, name: str | None, version: int | None, sealed: bytes | None) -> int:
        """Stores what a client has sealed as the version that follows the newest one. Raises Conflict for another
        number, and NotConfigured for an envelope under a key that is not the active one.
        """
        role = server().GetUserId()
        return self._host.as_owner(lambda: self._stored(role, name, version, sealed))

    def _stored(self, role: int, name: str | None, version: int | None, sealed: bytes | None) -> int:
        key = self._host.row(LOCK, ["oid", "text"], [role, name])
        if key is None:
            raise errors.NotPermitted(hint=HINT)
        state = self._host.row(STATE, ["uuid", "uuid"], [key["key_uuid"], key["field_uuid"]]) or {}
        if version is None or version != state["newest"] + 1:
            raise errors.Conflict("another version of this secret was stored meanwhile", hint="Seal it again.")
        if sealed is None or sealed[:HEADER_BYTES] != _head(key, state):
            raise errors.NotConfigured("the envelope is not under the secret's active key", hint="Seal it again.")
        Keys(self._host, self._link).record_audit("store_secret", str(key["key_uuid"]), str(name), f"version {version}")
        self._host.rows(INSERT, ["uuid", "int4", "bytea"], [key["key_uuid"], version, sealed])
        return version

    def _rows(self, query: str, name: str | None) -> list[Row]:
        role = server().GetUserId()
        return self._host.as_owner(lambda: self._host.rows(query, ["oid", "text"], [role, name]))


def _head(key: Row, state: Row) -> bytes | None:
    return None if state["key_id"] is None else header(key["suite"], key["pad"], state["key_id"])
