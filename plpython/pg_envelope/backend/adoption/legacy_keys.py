"""Keeps the keys of other software: each is sealed under a named key of its own, and destroyed with it."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.adoption.reading import CONTEXT
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.keys import Keys, chosen_kek
from pg_envelope.backend.session_keys import SessionKeys
from pg_envelope.backend.values import Values
from pg_envelope.envelope import HEADER_BYTES
from pg_envelope.foreign.keys import LegacyKey, parse

SEAL = """
SELECT c.seal FROM envelope_private.field f JOIN envelope_private.capability c USING (field_uuid)
WHERE f.key_uuid = $1"""
KEEP = "INSERT INTO envelope_private.legacy_key (key_uuid, format, sealed) VALUES ($1, $2, $3)"
FIND = """
SELECT k.key_uuid, l.sealed, c.capability
FROM envelope_private.key k JOIN envelope_private.legacy_key l USING (key_uuid)
JOIN envelope_private.field f USING (key_uuid) JOIN envelope_private.capability c USING (field_uuid)
WHERE k.name = $1"""
# What no column needs any more, of those that columns of this table used.
UNUSED = """
SELECT k.name FROM envelope_private.key k JOIN envelope_private.legacy_key l USING (key_uuid)
WHERE k.key_uuid = ANY ($1::uuid[]) AND NOT EXISTS (
    SELECT FROM envelope_private.adoption a JOIN envelope_private.protected_column c USING (field_uuid)
    WHERE a.legacy_key = k.key_uuid)"""
FORGET = """
DELETE FROM envelope_private.legacy_key l USING envelope_private.key k WHERE k.key_uuid = l.key_uuid AND k.name = $1"""


class LegacyKeys:
    """Every method runs with the rights of the extension's owner."""

    def __init__(self, host: Host, keys: Keys, values: Values, session_keys: SessionKeys) -> None:
        self._host, self._keys, self._values, self._get = host, keys, values, session_keys.get

    def take_over(
        self, name: str | None, form: str | None, secret: bytes | None, kek: str | None, store: str | None
    ) -> None:
        """Raises BadInput, whose text holds nothing of the secret."""
        found = parse(form or "", secret or b"")
        key_uuid = self._keys.create_named(name or "", chosen_kek(kek), store)
        row = self._host.row(SEAL, ["uuid"], [key_uuid])
        assert row is not None
        sealed = self._values.encrypt(found.stored(), row["seal"], CONTEXT.decode())
        self._host.rows(KEEP, ["uuid", "text", "bytea"], [key_uuid, form, sealed])

    def find(self, name: str | None) -> tuple[str, LegacyKey]:
        """Returns a legacy key's uuid and the key. Raises KeyNotFound, and KeyDestroyed."""
        row = self._row(name)
        key = self._get(row["capability"] + row["sealed"][:HEADER_BYTES])
        content = key.open(row["sealed"], CONTEXT)
        if content is None:
            raise errors.KeyDestroyed
        return str(row["key_uuid"]), LegacyKey.of_stored(content)

    def _row(self, name: str | None) -> Row:
        row = self._host.row(FIND, ["text"], [name])
        if row is None:
            raise errors.KeyNotFound(
                "there is no legacy key of this name",
                hint="Import it: pg-envelope key import NAME --format FORMAT --secret-file FILE.",
            )
        return row

    def unused(self, key_uuids: list[str]) -> list[str]:
        """Returns the names of those of these legacy keys that no adoption needs any more."""
        return [row["name"] for row in self._host.rows(UNUSED, ["text[]"], [key_uuids])]

    def forget(self, name: str) -> None:
        self._host.rows(FORGET, ["text"], [name])
