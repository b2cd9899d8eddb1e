"""Secrets such as API keys, for the application: from the database, or from Vault's KV engine."""

from __future__ import annotations

from time import monotonic
from typing import NamedTuple

from pg_envelope import errors
from pg_envelope_client.sealing.client import KeyClient
from pg_envelope_client.sealing.database_secrets import DatabaseSecrets
from pg_envelope_client.sealing.secret_source import SecretSource, SecretVersion

CACHE_SECONDS = 60.0
GRACE_SECONDS = 86_400.0


class HeldSecret(NamedTuple):
    versions: list[SecretVersion]
    until: float
    generation: int


class Secrets:
    """Secrets by name: `secrets["stripe"]`. Safe to share between threads.

    `source` is a KeyClient, or VaultSecrets. One object reads one source: another place never stands in for it. A
    value is kept for `cache_seconds`, and dropped at once when keys were revoked. For `grace_seconds` after a
    replacement both versions count as valid. Raises NotPermitted without grant_client_key, and KeyNotFound.
    """

    def __init__(
        self,
        source: KeyClient | SecretSource,
        *,
        cache_seconds: float = CACHE_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._source = DatabaseSecrets(source) if isinstance(source, KeyClient) else source
        self._cache_seconds, self._grace_seconds = cache_seconds, grace_seconds
        self._held: dict[str, HeldSecret] = {}

    def __getitem__(self, name: str) -> str:
        """Returns the newest version as text. Raises BadInput when it is no text."""
        try:
            return self.content(name).decode()
        except UnicodeDecodeError:
            raise errors.BadInput("the secret is no text", hint="Use content(name).") from None

    def content(self, name: str) -> bytes:
        """Returns the newest version."""
        return self._versions(name)[0].content

    def valid(self, name: str) -> list[bytes]:
        """Returns the newest version, and behind it the one before as long as its grace lasts: for what others send."""
        newest, *before = self._versions(name)
        lasts = monotonic() - newest.since < self._grace_seconds
        return [newest.content, *(version.content for version in before if lasts)]

    def names(self, prefix: str = "") -> list[str]:
        """Returns the names of the secrets that the role may have and that begin with `prefix`, in order."""
        return self._source.names(prefix)

    def store(self, name: str, value: str | bytes) -> int:
        """Stores a value as the newest version; for the database it is sealed here. Returns the version's number.

        At the database the role needs EXECUTE on envelope.store_secret, too. Raises NotPermitted, BadInput for an empty
        value, and Conflict when another version was stored meanwhile.
        """
        if not value:
            raise errors.BadInput("a secret cannot be empty")
        number = self._source.store(name, value)
        self._held.pop(name, None)
        return number

    def forget(self) -> None:
        """Drops all values."""
        self._held.clear()

    def _versions(self, name: str) -> list[SecretVersion]:
        generation = self._source.generation
        held = self._held.get(name)
        if held is None or held.until <= monotonic() or held.generation != generation:
            self._held.pop(name, None)
            loaded = self._source.versions(name, self._grace_seconds)
            held = self._held[name] = HeldSecret(loaded, monotonic() + self._cache_seconds, generation)
        return held.versions
