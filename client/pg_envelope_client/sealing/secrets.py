"""Reads secrets of the database, such as API keys, and opens them in the application."""

from __future__ import annotations

from time import monotonic
from typing import NamedTuple

from pg_envelope import errors
from pg_envelope_client.sealing.client import KeyClient

CACHE_SECONDS = 60.0
GRACE_SECONDS = 86_400.0


class SecretVersion(NamedTuple):
    """One version; `since` (monotonic seconds) is when it was stored."""

    number: int
    content: bytes
    since: float


class HeldSecret(NamedTuple):
    versions: list[SecretVersion]
    until: float
    generation: int


class Secrets:
    """Secrets by name, as envelope.import_secret stored them: `secrets["stripe"]`. Safe to share between threads.

    A value is kept for `cache_seconds`, and dropped at once when keys were revoked. For `grace_seconds` after a
    replacement both versions count as valid. Raises NotPermitted without grant_client_key, and KeyNotFound.
    """

    def __init__(
        self, keys: KeyClient, *, cache_seconds: float = CACHE_SECONDS, grace_seconds: float = GRACE_SECONDS
    ) -> None:
        self._keys, self._cache_seconds, self._grace_seconds = keys, cache_seconds, grace_seconds
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

    def forget(self) -> None:
        """Drops all values."""
        self._held.clear()

    def _versions(self, name: str) -> list[SecretVersion]:
        generation = self._keys.generation
        held = self._held.get(name)
        if held is None or held.until <= monotonic() or held.generation != generation:
            held = self._held[name] = HeldSecret(self._load(name), monotonic() + self._cache_seconds, generation)
        return held.versions

    def _load(self, name: str) -> list[SecretVersion]:
        key, now = self._keys.named(name), monotonic()
        found = [
            SecretVersion(version, key.open_bytes(sealed, f"secret {version}") or b"", now - age)
            for version, sealed, age in self._keys.secret_versions(name)
        ]
        if not found:
            raise errors.KeyNotFound("there is no secret of this name", hint="pg-envelope secret import stores one.")
        return found
