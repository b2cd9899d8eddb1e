"""Secrets that PostgreSQL keeps, each sealed under the named key of its own name."""

from __future__ import annotations

from time import monotonic

from pg_envelope import errors
from pg_envelope_client.sealing.client import KeyClient, NamedKey
from pg_envelope_client.sealing.secret_source import SecretVersion


class DatabaseSecrets:
    """A source of secrets: opens and seals what the database keeps. Raises NotPermitted without grant_client_key."""

    def __init__(self, keys: KeyClient) -> None:
        self._keys = keys
        self._named: dict[str, NamedKey] = {}
        self._generation = -1

    @property
    def generation(self) -> int:
        return self._keys.generation

    def names(self, prefix: str) -> list[str]:
        return self._keys.secret_names(prefix)

    def versions(self, name: str, grace_seconds: float) -> list[SecretVersion]:  # noqa: ARG002
        key, versions, now = self._key(name), self._keys.secret_versions(name), monotonic()
        if not versions:
            # The key may be gone, or not granted any more, since it was first asked for.
            self._named.pop(name, None)
            self._key(name)
            raise errors.KeyNotFound("there is no secret of this name", hint="pg-envelope secret set stores one.")
        return [
            SecretVersion(version, key.open_bytes(sealed, context(version)) or b"", now - age)
            for version, sealed, age in versions
        ]

    def store(self, name: str, value: str | bytes) -> int:
        try:
            return self._store(name, value)
        except errors.EnvelopeError as error:
            if error.sqlstate != errors.NotConfigured.sqlstate:
                raise
        # The key was rotated since this client read the key catalog.
        self._keys.refresh()
        return self._store(name, value)

    def _store(self, name: str, value: str | bytes) -> int:
        versions = self._keys.secret_versions(name)
        number = versions[0][0] + 1 if versions else 1
        sealed = self._key(name).seal(value, context(number)) or b""
        self._keys.store_secret(name, number, sealed)
        return number

    def _key(self, name: str) -> NamedKey:
        """Returns the named key, which may be another one once keys were revoked."""
        generation = self._keys.generation
        if generation != self._generation:
            self._named.clear()
            self._generation = generation
        found = self._named.get(name)
        if found is None:
            found = self._named[name] = self._keys.named(name)
        return found


def context(version: int) -> str:
    """Returns the context of one version of a secret: it does not open in the place of another one."""
    return f"secret {version}"
