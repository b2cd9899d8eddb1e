"""Moves wrapped DEKs to their KEK's newest version, and proves that each opens before the old wrap is given up."""

from __future__ import annotations

import asyncio

from pg_envelope import derivation, errors, wire
from pg_envelope.broker.keys.cache import CacheKey
from pg_envelope.broker.keys.deks import OpenDeks, check_wrapped, context_of, store_of, store_path
from pg_envelope.broker.kms.providers.base import Entry, Item, Store, kek_version
from pg_envelope.broker.requests import rekey
from pg_envelope.broker.requests.asked import AskedRequest, told_outcome
from pg_envelope.broker.requests.messages import RewrapRequest, RotateKekRequest
from pg_envelope.broker.requests.moving import Moving
from pg_envelope.broker.requests.objects import WrappedDek
from pg_envelope.broker.requests.outcomes import Outcomes
from pg_envelope.broker.requests.reading import read
from pg_envelope.broker.requests.state import State


async def rewrap(state: State, asked: AskedRequest) -> wire.Message:
    wanted = read(RewrapRequest, asked.body)
    state.users.note([wanted.kek], wanted.database_uuid, asked.facts["who"])
    asked.facts.update(kek=wanted.kek, store=wanted.store, database=str(wanted.database_uuid))
    asked.facts.update(dek_ids=[dek.dek_id for dek in wanted.deks])
    state.refuse_dead(wanted.database_uuid, wanted.deks)
    if wanted.source is None:
        found = await Rewrapping(state.deks, wanted, asked.until).run()
    else:
        asked.facts.update(from_kek=wanted.source[0], from_store=wanted.source[1])
        if wanted.origin is not None:
            asked.facts.update(from_environment=wanted.origin[0], from_database=str(wanted.origin[1]))
            rekey.check_origin(wanted.origin, state.config.broker)
            state.refuse_dead(wanted.origin[1], wanted.deks)
        found = await Moving(state.deks, wanted, wanted.source, asked.until).run()
    asked.facts.update(told_outcome(found))
    return {"deks": found}


async def rotate_kek(state: State, asked: AskedRequest) -> wire.Message:
    wanted = read(RotateKekRequest, asked.body)
    asked.facts["kek"] = wanted.kek
    kms, name = state.deks.kek(wanted.kek)
    await kms.probe(name, asked.until)
    kms.check_version(name, wanted.kek_version)
    version = await kms.once("rotate", asked.until, kms.provider.rotate, name)
    kms.saw(name, version)
    asked.facts["kek_version"] = version
    return {"kek_version": version}


class Rewrapping(Outcomes):
    """Handles one rewrap request. A DEK that fails keeps its old wrap and its error, and the others go on."""

    def __init__(self, deks: OpenDeks, wanted: RewrapRequest, until: float) -> None:
        self._deks, self._wanted, self._until = deks, wanted, until
        self._kms, self._name = deks.kek(wanted.kek)
        self._store: Store | None = store_of(self._kms, wanted.store)
        self._refs = {self._key(dek): dek for dek in wanted.deks}
        super().__init__()

    async def run(self) -> list[wire.Message]:
        """Returns the members of `deks` in the response, in the request's order."""
        await self._kms.ready(self._name, self._until)
        old = await self._entries()
        new = await self._rewrapped(old)
        opened = await self._proved(new)
        if self._store is not None:
            await self._stored(self._store, old, new, opened)
        self._cached(new, opened)
        return [self._answer(key, new.get(key), to_catalog=self._store is None) for key in self._refs]

    def _key(self, dek: WrappedDek) -> CacheKey:
        check_wrapped(self._wanted.store, dek.wrapped)
        return self._deks.key(self._wanted.database_uuid, dek.dek_id, self._wanted.kek, self._wanted.store, dek.wrapped)

    async def _entries(self) -> dict[CacheKey, Entry]:
        entries = await asyncio.gather(*(self._entry(key) for key in self._refs))
        return self._sorted_out(dict(zip(self._refs, entries, strict=True)))

    async def _entry(self, key: CacheKey) -> Entry | errors.EnvelopeError:
        if self._store is None:
            return Entry(key.wrapped or "", 0)
        try:
            return await self._kms.call("kv_read", self._until, self._store.read, store_path(key))
        except errors.EnvelopeError as error:
            return error

    async def _rewrapped(self, old: dict[CacheKey, Entry]) -> dict[CacheKey, str]:
        items = [Item(context_of(key), entry.wrapped) for key, entry in old.items()]
        results = await self._kms.batches("rewrap", self._until, self._kms.provider.rewrap, self._name, items)
        return self._sorted_out(dict(zip(old, results, strict=True)))

    async def _proved(self, new: dict[CacheKey, str]) -> dict[CacheKey, bytes]:
        items = [Item(context_of(key), wrapped) for key, wrapped in new.items()]
        results = await self._kms.batches("unwrap", self._until, self._kms.provider.unwrap, self._name, items)
        opened = self._sorted_out(dict(zip(new, results, strict=True)))
        for key, dek in opened.items():
            if not derivation.same(derivation.fingerprint(dek, key.dek_id), self._refs[key].fingerprint):
                self._failed[key] = errors.UnwrapFailed()
        return {key: dek for key, dek in opened.items() if key not in self._failed}

    async def _stored(
        self, store: Store, old: dict[CacheKey, Entry], new: dict[CacheKey, str], opened: dict[CacheKey, bytes]
    ) -> None:
        moved = [key for key in opened if kek_version(old[key].wrapped) != kek_version(new[key])]
        await asyncio.gather(*(self._replace(store, key, new[key], old[key].version) for key in moved))

    async def _replace(self, store: Store, key: CacheKey, wrapped: str, version: int) -> None:
        fingerprint = self._refs[key].fingerprint
        try:
            await self._kms.once(
                "kv_write", self._until, store.replace, store_path(key), wrapped, key.kek, fingerprint, version
            )
        except errors.EnvelopeError as error:
            self._failed[key] = error

    def _cached(self, new: dict[CacheKey, str], opened: dict[CacheKey, bytes]) -> None:
        """Keeps a DEK in use at hand under its new wrap, because a rotation must not make every backend wait for the
        KMS.
        """
        for key, dek in opened.items():
            if self._store is None and key not in self._failed:
                self._deks.follow(key, key._replace(wrapped=new[key]), dek)
