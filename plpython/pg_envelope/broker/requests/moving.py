"""Moves wrapped DEKs to another KEK or store, in any KMS, and proves that each opens there: FORMAT.md section 4.

The old wraps stay where they are. Only an entry of the same place in the same KV store is replaced. The caller repeats
a request that was cut off. The broker then finds the DEKs that it has moved already, and answers them as moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar
from uuid import UUID

from pg_envelope import derivation, errors, wire
from pg_envelope.broker.keys.cache import CacheKey
from pg_envelope.broker.keys.deks import OpenDeks, check_wrapped, context_of, store_of, store_path
from pg_envelope.broker.kms.providers.base import Entry, Item, Plain, Store
from pg_envelope.broker.requests.messages import RewrapRequest
from pg_envelope.broker.requests.objects import WrappedDek
from pg_envelope.broker.requests.outcomes import Outcomes

T = TypeVar("T")


class WrapPlace:
    """A KEK with a store: where wrapped DEKs come from, or go to."""

    def __init__(
        self, deks: OpenDeks, kek: str, store: str, until: float, bound: tuple[str, UUID] | None = None
    ) -> None:
        self.kek, self.store_name, self.until, self._bound = kek, store, until, bound
        self.kms, self.name = deks.kek(kek)
        self.store: Store | None = store_of(self.kms, store)

    def here(self, key: CacheKey) -> CacheKey:
        """Returns the key as a wrap in this place is bound: with another environment and database, when DEKs come from
        there.
        """
        return key if self._bound is None else key._replace(environment=self._bound[0], database=self._bound[1])

    def same_entries(self, other: WrapPlace) -> bool:
        """Tells whether both keep their wraps in one store, so that both mean the same entry."""
        same_paths = self._bound == other._bound
        return same_paths and self.store is not None and self.kms is other.kms and other.store is not None

    async def entry(self, key: CacheKey) -> Entry | None:
        """Returns the entry of the store, or None when there is none."""
        if self.store is None:
            return None
        try:
            return await self.kms.call("kv_read", self.until, self.store.read, store_path(self.here(key)))
        except errors.KeyNotFound:
            return None

    async def opened(
        self, wraps: dict[CacheKey, str], name: str | None = None
    ) -> dict[CacheKey, bytes | errors.EnvelopeError]:
        """Opens wraps; `name` is another KEK in the same KMS."""
        items = [Item(context_of(self.here(key)), wrapped) for key, wrapped in wraps.items()]
        results = await self.kms.batches("unwrap", self.until, self.kms.provider.unwrap, name or self.name, items)
        return dict(zip(wraps, results, strict=True))

    async def wrapped(self, deks: dict[CacheKey, bytes]) -> dict[CacheKey, str | errors.EnvelopeError]:
        items = [Plain(context_of(self.here(key)), dek) for key, dek in deks.items()]
        results = await self.kms.batches("wrap", self.until, self.kms.provider.wrap, self.name, items)
        return dict(zip(deks, results, strict=True))


class Moving(Outcomes):
    """Handles one rewrap request with `from_kek` or `from_store`. A DEK that fails keeps its error, and the others go
    on.
    """

    def __init__(self, deks: OpenDeks, wanted: RewrapRequest, source: tuple[str, str], until: float) -> None:
        self._deks = deks
        self._from = WrapPlace(deks, *source, until, wanted.origin)
        self._to = WrapPlace(deks, wanted.kek, wanted.store, until)
        self._refs: dict[CacheKey, WrappedDek] = {}
        for dek in wanted.deks:
            check_wrapped(source[1], dek.wrapped)
            self._refs[deks.key(wanted.database_uuid, dek.dek_id, *source, dek.wrapped)] = dek
        super().__init__()

    async def run(self) -> list[wire.Message]:
        """Returns the members of `deks` in the response, in the request's order."""
        for place in (self._from, self._to):
            await place.kms.ready(place.name, place.until)
        there = await self._each(self._refs, self._to.entry)
        found = {key: entry for key, entry in there.items() if entry is not None}
        done = await self._same(found, self._to.name)
        old = await self._old([key for key in there if key not in done], await self._foreign(found, done))
        opened = self._checked(await self._from.opened(old))
        new = self._sorted_out(await self._to.wrapped(opened))
        proved = self._checked(await self._to.opened(new))
        await self._each(proved, lambda key: self._kept(key, new[key], there[key]))
        self._cached(new, proved)
        return [self._answer(key, {**done, **new}.get(key), to_catalog=self._to.store is None) for key in self._refs]

    async def _same(self, there: dict[CacheKey, Entry], name: str) -> dict[CacheKey, str]:
        """Returns the wraps in the new place that this KEK opens to the right DEK. Under the new KEK these are moved
        already.
        """
        wraps = {key: entry.wrapped for key, entry in there.items()}
        found = await self._to.opened(wraps, name)
        return {key: wraps[key] for key, dek in found.items() if isinstance(dek, bytes) and self._fits(key, dek)}

    async def _foreign(self, there: dict[CacheKey, Entry], done: dict[CacheKey, str]) -> set[CacheKey]:
        """Returns the DEKs whose entry in the new place is not ours. An entry is ours if the KEK that it names opens
        it.
        """
        if self._to.same_entries(self._from):
            return set()
        left = {key: entry for key, entry in there.items() if key not in done}
        by_name: dict[str, dict[CacheKey, Entry]] = {}
        for key, entry in left.items():
            by_name.setdefault(self._deks.name_of(self._to.kms, entry, self._to.name), {})[key] = entry
        ours = [await self._same(entries, name) for name, entries in by_name.items()]
        return set(left).difference(*ours)

    async def _old(self, wanted: Iterable[CacheKey], foreign: set[CacheKey]) -> dict[CacheKey, str]:
        """Returns the wraps to move. A move never overwrites an entry that is not ours."""
        if self._from.store is None:
            found = {key: Entry(key.wrapped or "", 0) for key in wanted}
        else:
            entries = await self._each(wanted, self._from.entry)
            found = {key: entry for key, entry in entries.items() if entry is not None}
            self._failed.update({key: errors.KeyNotFound() for key in entries if key not in found})
        self._failed.update({key: errors.StoreConflict() for key in foreign})
        return {key: entry.wrapped for key, entry in found.items() if key not in self._failed}

    async def _kept(self, key: CacheKey, wrapped: str, there: Entry | None) -> None:
        """Writes the new wrap to the new place's store, if it has one: once only, and over nothing but the entry that
        was read.
        """
        store, kms, fingerprint = self._to.store, self._to.kms, self._refs[key].fingerprint
        if store is None:
            return
        arguments = (store_path(key), wrapped, self._to.kek, fingerprint)
        if there is None:
            await kms.once("kv_write", self._to.until, store.create, *arguments)
        else:
            await kms.once("kv_write", self._to.until, store.replace, *arguments, there.version)

    def _cached(self, new: dict[CacheKey, str], proved: dict[CacheKey, bytes]) -> None:
        """Keeps a DEK in use at hand, because a move must not make every backend wait for the KMS."""
        for key, dek in proved.items():
            if key not in self._failed:
                wrapped = new[key] if self._to.store is None else None
                moved = key._replace(kek=self._to.kek, store=self._to.store_name, wrapped=wrapped)
                self._deks.follow(key, moved, dek)

    async def _each(
        self, wanted: Iterable[CacheKey], function: Callable[[CacheKey], Awaitable[T]]
    ) -> dict[CacheKey, T]:
        async def attempt(key: CacheKey) -> T | errors.EnvelopeError:
            try:
                return await function(key)
            except errors.EnvelopeError as error:
                return error

        listed = list(wanted)
        return self._sorted_out(dict(zip(listed, await asyncio.gather(*map(attempt, listed)), strict=True)))

    def _fits(self, key: CacheKey, dek: bytes) -> bool:
        return derivation.same(derivation.fingerprint(dek, key.dek_id), self._refs[key].fingerprint)

    def _checked(self, found: dict[CacheKey, bytes | errors.EnvelopeError]) -> dict[CacheKey, bytes]:
        """Returns the DEKs that opened to the DEK which the catalog means."""
        opened = self._sorted_out(found)
        wrong = [key for key, dek in opened.items() if not self._fits(key, dek)]
        self._failed.update({key: errors.UnwrapFailed() for key in wrong})
        return {key: dek for key, dek in opened.items() if key not in self._failed}
