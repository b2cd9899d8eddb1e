"""Opens and seals secrets of the database, such as API keys, in the application."""

from __future__ import annotations

from time import monotonic
from typing import NamedTuple

from pg_envelope import errors
from pg_envelope_client.sealing.client import KeyClient, NamedKey

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
    """Secrets by name: `secrets["stripe"]`. Safe to share between threads.

    A value is kept for `cache_seconds`, and dropped at once when keys were revoked. For `grace_seconds` after a
    replacement both versions count as valid. Raises NotPermitted without grant_client_key, and KeyNotFound.
    """

    def __init__(
        self, keys: KeyClient, *, cache_seconds: float = CACHE_SECONDS, grace_seconds: float = GRACE_SECONDS
    ) -> None:
        self._keys, self._cache_seconds, self._grace_seconds = keys, cache_seconds, grace_seconds
        self._held: dict[str, HeldSecret] = {}
        self._named: dict[str, NamedKey] = {}
        self._generation = -1

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
        return self._keys.secret_names(prefix)

    def store(self, name: str, value: str | bytes) -> int:
        """Seals a value here, and stores it as the newest version. Returns the version's number.

        The role needs EXECUTE on envelope.store_secret, too. Raises NotPermitted, BadInput for an empty value, and
        Conflict when another version was stored meanwhile.
        """
        if not value:
            raise errors.BadInput("a secret cannot be empty")
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
        self._held.pop(name, None)
        return number

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
