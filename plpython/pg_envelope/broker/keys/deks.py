"""Opens the DEKs that requests name: by the cache, one flight a DEK, batches to the KMS, and the grace while it is
down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from pg_envelope import derivation, errors
from pg_envelope.broker.keys.cache import Cache, CacheKey, OpenedDek
from pg_envelope.broker.kms.kms import Kms
from pg_envelope.broker.kms.providers.base import Entry, Item, Store
from pg_envelope.broker.settings.config import Kek
from pg_envelope.broker.watch.audit import Audit
from pg_envelope.broker.watch.metrics import Metrics

SHARE_OF_DEADLINE = 0.8
SOFT = (errors.KmsUnavailable, errors.KmsSealed, errors.Deadline)

Flight = asyncio.Future[OpenedDek | errors.EnvelopeError]


class Answer(NamedTuple):
    """A DEK, or the error for which there is none. `left` is how many seconds it may be used. `cached`: the KMS was not
    asked.
    """

    dek: OpenedDek | errors.EnvelopeError
    cached: bool
    left: float


class Source(NamedTuple):
    """A wrapped DEK, and the name in the KMS of the KEK that opens it."""

    name: str
    wrapped: str


@dataclass(frozen=True)
class Limits:
    environment: str
    flight_seconds: float


class OpenDeks:
    """All requests share it. It lives in the event loop, so the code between two awaits is atomic."""

    def __init__(
        self,
        limits: Limits,
        keks: Mapping[str, Kek],
        kms: Mapping[str, Kms],
        cache: Cache,
        audit: Audit,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._limits, self._keks, self._kms = limits, keks, kms
        self._cache, self._audit, self._metrics, self._clock = cache, audit, metrics, clock
        self._flights: dict[CacheKey, Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def key(self, database: UUID, dek_id: int, kek: str, store: str, wrapped: str | None) -> CacheKey:
        return CacheKey(self._limits.environment, database, dek_id, kek, store, wrapped)

    def kek(self, name: str) -> tuple[Kms, str]:
        """Returns the KMS of a KEK, and the KEK's name there. Raises KekUnknown."""
        if name not in self._keks:
            raise errors.KekUnknown()
        return self._kms[self._keks[name].kms], self._keks[name].key

    def name_of(self, kms: Kms, entry: Entry, otherwise: str) -> str:
        """Returns the KEK, by its name in the KMS, that opens a store's entry.

        After a move it is ahead of the catalog.
        """
        held = self._keks.get(entry.kek)
        return held.key if held is not None and held.kms == kms.name else otherwise

    def keep(self, key: CacheKey, opened: OpenedDek) -> None:
        """Puts a DEK that the KMS has just opened into the cache."""
        self._cache.put(key, opened)

    def follow(self, old: CacheKey, new: CacheKey, dek: bytes) -> None:
        """Keeps a DEK under its new wrap, too, when it is in use under the old one."""
        if self._cache.get(old) is not None:
            self._cache.put(new, OpenedDek(dek, derivation.fingerprint(dek, new.dek_id), self._clock()))

    def drop_all(self) -> int:
        """Empties the cache.

        Flights under way still answer the requests that wait for them. Their DEKs are not kept.
        """
        self._flights = {}
        return self._cache.clear()

    def forget(self, database: UUID, dek_ids: set[int]) -> int:
        """Drops DEKs that must not be used any more. DEKs of flights under way are not kept either."""
        self._flights = {}
        return self._cache.forget(database, dek_ids)

    async def resolve(self, wanted: Sequence[CacheKey], until: float) -> list[Answer]:
        """Returns an answer for each key, in order. It is never later than `until`, unless the loop itself is late."""
        held = {key: self._cache.get(key) for key in wanted}
        fresh = {key for key, opened in held.items() if opened is not None and self._cache.fresh(opened)}
        flights = self._launch([key for key in held if key not in fresh])
        self._metrics.hits.add(by=len(fresh))
        self._metrics.misses.add(by=len(flights))
        if flights:
            # Some time is kept back, so that a stale DEK can still be handed out when the KMS hangs.
            await asyncio.wait(flights.values(), timeout=SHARE_OF_DEADLINE * max(0.0, until - self._clock()))
        return [self._answer(key, held[key], flights.get(key)) for key in wanted]

    def _answer(self, key: CacheKey, held: OpenedDek | None, flight: Flight | None) -> Answer:
        if flight is None and held is not None:
            return Answer(held, True, self._left(key, held))
        found = flight.result() if flight is not None and flight.done() else errors.Deadline()
        if isinstance(found, OpenedDek):
            return Answer(found, False, self._left(key, found))
        if isinstance(found, SOFT) and held is not None:
            return self._in_grace(key, held, found)
        return Answer(found, False, 0.0)

    def _in_grace(self, key: CacheKey, held: OpenedDek, error: errors.EnvelopeError) -> Answer:
        kms, _ = self.kek(key.kek)
        left = self._cache.left(held, down=True)
        if left <= 0:
            self._end_grace(kms, "expired")
            return Answer(error, False, 0.0)
        if not kms.in_grace:
            kms.in_grace = True
            self._audit.write("grace_entered", kms=kms.name, error=error.code, seconds_left=round(left, 3))
        self._metrics.stale.add()
        return Answer(held, True, left)

    def _end_grace(self, kms: Kms, reason: str) -> None:
        if kms.in_grace:
            kms.in_grace = False
            self._audit.write("grace_over", kms=kms.name, reason=reason)

    def grace_expired(self) -> None:
        """To be called at intervals, because a grace also ends when no request asks for the keys."""
        for kms in self._kms.values():
            if kms.in_grace and kms.down is None:
                self._end_grace(kms, "kms_is_back")
            elif kms.in_grace and not self._cache.longest_grace(self.keks_of(kms)):
                self._end_grace(kms, "expired")

    def grace_left(self, kek: str) -> float:
        """Returns the seconds until the last cached DEK under this KEK is over if the KMS stays down; 0 when none is
        cached.
        """
        return self._cache.longest_grace({kek})

    def keks_of(self, kms: Kms) -> set[str]:
        return {name for name, kek in self._keks.items() if kek.kms == kms.name}

    def _left(self, key: CacheKey, opened: OpenedDek) -> float:
        kms, _ = self.kek(key.kek)
        return self._cache.left(opened, down=kms.down is not None)

    def _launch(self, missing: list[CacheKey]) -> dict[CacheKey, Flight]:
        """Returns the flight of each key, by KEK: one under way, or a new one."""
        by_kek: dict[str, list[CacheKey]] = {}
        flights = {}
        for key in missing:
            if key not in self._flights:
                self._flights[key] = asyncio.get_running_loop().create_future()
                by_kek.setdefault(key.kek, []).append(key)
            flights[key] = self._flights[key]
        for kek, group in by_kek.items():
            task = asyncio.create_task(self._fly(kek, group, self._flights))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return flights

    async def _fly(self, kek: str, group: list[CacheKey], flights: dict[CacheKey, Flight]) -> None:
        """Ends every flight of the group, with a DEK or an error. `flights` is the table from before a flush."""
        until = self._clock() + self._limits.flight_seconds
        try:
            kms, name = self.kek(kek)
            await kms.ready(name, until)
            sources = await asyncio.gather(*(self.source(kms, name, key, until) for key in group))
            await self._unwrap(kms, dict(zip(group, sources, strict=True)), flights, until)
        except errors.EnvelopeError as error:
            self._land_all(group, error, flights)
        finally:
            # Each waiting request gets an answer, also after an error.
            self._land_all(group, errors.Internal(), flights)

    async def source(self, kms: Kms, name: str, key: CacheKey, until: float) -> Source | errors.EnvelopeError:
        """Returns the wrapped DEK, from the request or from the KMS's store, with the KEK that opens it."""
        try:
            store = store_of(kms, key.store)
            check_wrapped(key.store, key.wrapped)
            if store is None:
                return Source(name, key.wrapped or "")
            entry = await kms.call("kv_read", until, store.read, store_path(key))
            return Source(self.name_of(kms, entry, name), entry.wrapped)
        except errors.EnvelopeError as error:
            return error

    async def _unwrap(
        self,
        kms: Kms,
        sources: dict[CacheKey, Source | errors.EnvelopeError],
        flights: dict[CacheKey, Flight],
        until: float,
    ) -> None:
        by_name: dict[str, dict[CacheKey, str]] = {}
        for key, source in sources.items():
            if isinstance(source, Source):
                by_name.setdefault(source.name, {})[key] = source.wrapped
            else:
                self._land(key, source, flights)
        for name, found in by_name.items():
            items = [Item(context_of(key), wrapped) for key, wrapped in found.items()]
            results = await kms.batches("unwrap", until, kms.provider.unwrap, name, items)
            for key, result in zip(found, results, strict=True):
                self._land(key, result, flights)

    def _land_all(self, group: list[CacheKey], error: errors.EnvelopeError, flights: dict[CacheKey, Flight]) -> None:
        for key in group:
            self._land(key, error, flights)

    def _land(self, key: CacheKey, result: bytes | errors.EnvelopeError, flights: dict[CacheKey, Flight]) -> None:
        flight = flights.pop(key, None)
        if flight is None or flight.done():
            return
        flushed = flights is not self._flights
        if isinstance(result, bytes):
            opened = OpenedDek(result, derivation.fingerprint(result, key.dek_id), self._clock())
            if not flushed:
                self._cache.put(key, opened)
            flight.set_result(opened)
            return
        if not isinstance(result, (*SOFT, errors.Internal)):
            self._cache.drop(key)
        flight.set_result(result)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._cache.clear()


def store_of(kms: Kms, name: str) -> Store | None:
    """Returns the KMS's own store, or None for the catalog. Raises StoreUnknown."""
    if name not in kms.provider.stores:
        raise errors.StoreUnknown()
    return None if name == "catalog" else kms.provider.store


def check_wrapped(store: str, wrapped: str | None) -> None:
    """Raises BadInput when a request with a store also holds a wrapped DEK, or a request without a store holds none."""
    if (wrapped is None) == (store == "catalog"):
        raise errors.BadInput("'wrapped' must be given for the store 'catalog', and for no other")


def store_path(key: CacheKey) -> str:
    return f"{key.database}/{key.dek_id}"


def context_of(key: CacheKey) -> str:
    return derivation.context(key.environment, key.database, key.dek_id)
