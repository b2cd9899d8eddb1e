"""What a place must offer in which `Secrets` finds secrets: the database, or Vault's KV engine."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class SecretVersion(NamedTuple):
    """One version; `since` (monotonic seconds) is when it was stored."""

    number: int
    content: bytes
    since: float


class SecretSource(Protocol):
    """Every method raises EnvelopeError: NotPermitted or KmsDenied, KeyNotFound, Unavailable."""

    @property
    def generation(self) -> int:
        """A number that changes when what was read before must be read again."""

    def names(self, prefix: str) -> list[str]:
        """Returns the names that begin so, in order."""

    def versions(self, name: str, grace_seconds: float) -> list[SecretVersion]:
        """Returns the newest version, and behind it the one before if it may still be valid."""

    def store(self, name: str, value: str | bytes) -> int:
        """Stores the next version. Returns its number."""
