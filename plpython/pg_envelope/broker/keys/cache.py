"""Keeps the unwrapped DEKs in memory, with a bound, a time to live and a grace."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from pg_envelope.broker.settings.config import CacheSettings as Settings
from pg_envelope.broker.watch.metrics import Metrics


class CacheKey(NamedTuple):
    """Everything that a wrap is bound to, and the wrap itself. So no other request can reach this DEK."""

    environment: str
    database: UUID
    dek_id: int
    kek: str
    store: str
    wrapped: str | None


@dataclass(frozen=True)
class OpenedDek:
    """A DEK as the KMS opened it. `verified` is when that was, in seconds of the cache's clock."""

    dek: bytes = field(repr=False)
    fingerprint: bytes
    verified: float


class Cache:
    """Drops the least recently used DEK first."""

    def __init__(self, settings: Settings, clock: Callable[[], float], metrics: Metrics) -> None:
        self._settings, self._clock, self._metrics = settings, clock, metrics
        self._held: OrderedDict[CacheKey, OpenedDek] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: CacheKey) -> OpenedDek | None:
        """Returns a DEK that may still be used, or None. It may be stale: good only while the KMS does not answer."""
        found = self._held.get(key)
        if found is None:
            return None
        if self.left(found, down=True) <= 0:
            self.drop(key)
            self._metrics.expired.add()
            return None
        self._held.move_to_end(key)
        return found

    def put(self, key: CacheKey, opened: OpenedDek) -> None:
        self._held[key] = opened
        self._held.move_to_end(key)
        while len(self._held) > self._settings.max_keys:
            self._held.popitem(last=False)

    def drop(self, key: CacheKey) -> None:
        self._held.pop(key, None)

    def forget(self, database: UUID, dek_ids: set[int]) -> int:
        """Drops these DEKs, under whatever wrap. Returns how many were held."""
        found = [key for key in self._held if key.database == database and key.dek_id in dek_ids]
        for key in found:
            self.drop(key)
        return len(found)

    def clear(self) -> int:
        """Drops all DEKs. Returns how many were held."""
        count = len(self._held)
        self._held.clear()
        return count

    def fresh(self, opened: OpenedDek) -> bool:
        return self.left(opened, down=False) > 0

    def left(self, opened: OpenedDek, down: bool) -> float:
        """Returns the seconds for which the DEK may still be used: without asking the KMS, or with `down`, while it
        does not answer.
        """
        life = max(self._settings.ttl_seconds, self._settings.grace_seconds) if down else self._settings.ttl_seconds
        return opened.verified + life - self._clock()

    def sweep(self) -> int:
        """Drops DEKs whose grace is over, so that unused keys do not stay in memory. Returns how many."""
        over = [key for key, opened in self._held.items() if self.left(opened, down=True) <= 0]
        for key in over:
            self.drop(key)
        self._metrics.expired.add(by=len(over))
        return len(over)

    def longest_grace(self, keks: set[str]) -> float:
        """Returns the seconds until the last DEK under these KEKs is over, if their KMS stays down; 0 when none is
        held.
        """
        left = (self.left(opened, down=True) for key, opened in self._held.items() if key.kek in keks)
        return max(0.0, max(left, default=0.0))
