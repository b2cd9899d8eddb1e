"""Keeps values in a cache such as Redis, sealed. Whoever reads or writes its memory learns and changes nothing."""

from __future__ import annotations

from typing import Any, Protocol

from pg_envelope import errors
from pg_envelope_client.sealing.client import NamedKey
from pg_envelope_client.sealing.layout import place

MOST_SECONDS = 100 * 366 * 86_400


class CacheStore(Protocol):
    """What a cache must offer: redis.Redis has it."""

    def get(self, name: str) -> Any: ...
    def set(self, name: str, value: bytes, *, px: int | None = None) -> Any: ...
    def delete(self, *names: str) -> Any: ...


class SealedCache:
    """Values by name, each sealed under a named key and bound to prefix and name. Names are in the clear.

    A value that was moved, altered, or belongs to a destroyed or suspended key is a miss, as one that is not there.
    """

    def __init__(self, store: CacheStore, key: NamedKey, prefix: str = "") -> None:
        self._store, self._key, self._prefix = store, key, prefix

    def set(self, name: str, value: str | bytes, seconds: float | None = None) -> None:
        """Keeps a value, for so many seconds. Raises BadInput, NotPermitted, Unavailable, and what the cache raises."""
        sealed = self._key.seal(value, self._context(name))
        if sealed is None:
            raise errors.BadInput("a cache keeps no None", hint="delete(name) takes a value out of it.")
        self._store.set(self._prefix + name, sealed, px=_milliseconds(seconds))

    def get(self, name: str) -> bytes | None:
        """Returns a value as bytes, or None. Raises NotPermitted, Unavailable, and what the cache raises."""
        found = self._store.get(self._prefix + name)
        # A client that decodes responses gives text, which no envelope is.
        if not isinstance(found, bytes):
            return None
        try:
            return self._key.open_bytes(found, self._context(name))
        except (errors.InvalidEnvelope, errors.KeyDestroyed, errors.KeySuspended):
            return None

    def delete(self, *names: str) -> None:
        if names:
            self._store.delete(*(self._prefix + name for name in names))

    def _context(self, name: str) -> str:
        return place("cache", self._prefix, name)


def _milliseconds(seconds: float | None) -> int | None:
    if seconds is None:
        return None
    if not 0 < seconds < MOST_SECONDS:
        raise errors.BadInput("a value is kept for more than 0 seconds, and for less than 100 years")
    return max(1, round(seconds * 1000))
