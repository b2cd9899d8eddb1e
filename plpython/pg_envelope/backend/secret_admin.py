"""Making secrets for pgcrypto's functions: created, imported, replaced, sealed anew. Imported when first used."""

from __future__ import annotations

import secrets as random

from pg_envelope import errors
from pg_envelope.backend.guard import Guard
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.keys import Keys, chosen_kek
from pg_envelope.backend.secrets import SessionSecrets, context
from pg_envelope.backend.values import Values

# 32 characters: a passphrase, and at the same time a key of AES-256.
RANDOM_BYTES = 24
LOCK = """
SELECT k.key_uuid, k.name, c.capability, c.seal
FROM envelope_private.key k JOIN envelope_private.field f USING (key_uuid)
JOIN envelope_private.capability c USING (field_uuid) WHERE k.name = $1 FOR UPDATE OF k"""
VERSIONS = "SELECT version, sealed FROM envelope_private.secret WHERE key_uuid = $1 ORDER BY version"
INSERT = "INSERT INTO envelope_private.secret (key_uuid, version, sealed) VALUES ($1, $2, $3)"
UPDATE = "UPDATE envelope_private.secret SET sealed = $3 WHERE key_uuid = $1 AND version = $2"


class SecretAdmin:
    """One method per SQL function. Each runs as the extension's owner and returns a version, `reseal` a count."""

    def __init__(self, host: Host, guard: Guard, keys: Keys, values: Values, secrets: SessionSecrets) -> None:
        self._host = host
        self._keys = keys
        self._values = values
        self._forget = secrets.forget
        self.create = guard.plain(self._create)
        self.import_bytes = guard.plain(self._import)
        self.import_text = guard.plain(self._import_text)
        self.replace = guard.plain(self._replace_random)
        self.replace_bytes = guard.plain(self._replace)
        self.replace_text = guard.plain(self._replace_text)
        self.reseal = guard.plain(self._reseal)

    def _create(self, name: str | None, kek: str | None, store: str | None) -> int:
        return self._import(name, _random(), kek, store)

    def _import(self, name: str | None, secret: bytes | None, kek: str | None, store: str | None) -> int:
        checked = _checked(secret)
        try:
            self._keys.create_named(name or "", chosen_kek(kek), store)
        except errors.AlreadyProtected as error:
            hint = "envelope.replace_secret(name, ...) gives a secret a new version; envelope.keys lists the keys."
            raise errors.AlreadyProtected(error.message, hint=hint) from None
        return self._add(self._key(name), checked)

    def _import_text(self, name: str | None, secret: str | None, kek: str | None, store: str | None) -> int:
        return self._import(name, _encoded(secret), kek, store)

    def _replace_random(self, name: str | None) -> int:
        return self._replace(name, _random())

    def _replace_text(self, name: str | None, secret: str | None) -> int:
        return self._replace(name, _encoded(secret))

    def _replace(self, name: str | None, secret: bytes | None) -> int:
        checked = _checked(secret)
        key = self._key(name)
        if not self._versions(key):
            raise errors.KeyNotFound("this key has no secret", hint="envelope.secrets lists the secrets.")
        return self._add(key, checked)

    def _reseal(self, name: str | None) -> int:
        key = self._key(name)
        moved = 0
        for row in self._versions(key):
            sealed = self._values.reseal(row["sealed"], key["seal"], context(row["version"]))
            if sealed is not None:
                moved += 1
                self._write(UPDATE, key, row["version"], sealed)
        return moved

    def _key(self, name: str | None) -> Row:
        """A named key's uuid, capability and seal as they are now; locked, so that versions are counted one by one."""
        row = self._host.row(LOCK, ["text"], [name])
        if row is None:
            raise errors.KeyNotFound("there is no key of this name", hint="envelope.secrets lists the secrets.")
        return row

    def _versions(self, key: Row) -> list[Row]:
        return self._host.rows(VERSIONS, ["uuid"], [key["key_uuid"]])

    def _add(self, key: Row, secret: bytes) -> int:
        version = max((row["version"] for row in self._versions(key)), default=0) + 1
        self._keys.record_audit("store_secret", str(key["key_uuid"]), key["name"], f"version {version}")
        self._write(INSERT, key, version, self._values.encrypt(secret, key["seal"], context(version)))
        return int(version)

    def _write(self, statement: str, key: Row, version: int, sealed: bytes | None) -> None:
        self._host.rows(statement, ["uuid", "int4", "bytea"], [key["key_uuid"], version, sealed])
        self._forget()


def _random() -> bytes:
    return random.token_urlsafe(RANDOM_BYTES).encode()


def _checked(secret: bytes | None) -> bytes:
    if not secret:
        raise errors.BadInput("a secret cannot be empty")
    return secret


def _encoded(secret: str | None) -> bytes | None:
    return None if secret is None else secret.encode()
