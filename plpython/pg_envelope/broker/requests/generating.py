"""Makes new DEKs: one by the KMS, or several in one request, drawn here, wrapped by the KMS, and proved to open."""

from __future__ import annotations

import os
from typing import TypeVar
from uuid import UUID

from pg_envelope import derivation, errors, wire
from pg_envelope.broker.keys.cache import CacheKey, OpenedDek
from pg_envelope.broker.keys.deks import OpenDeks, context_of, store_of, store_path
from pg_envelope.broker.kms.kms import Kms
from pg_envelope.broker.kms.providers.base import Item, Plain, kek_version
from pg_envelope.broker.requests.asked import AskedRequest, base64_text
from pg_envelope.broker.requests.messages import GenerateManyRequest, GenerateRequest
from pg_envelope.broker.requests.reading import read
from pg_envelope.broker.requests.state import State

T = TypeVar("T")


async def generate(state: State, asked: AskedRequest) -> wire.Message:
    if "dek_ids" in asked.body:
        return await _many(state, asked, read(GenerateManyRequest, asked.body))
    return await _one(state, asked, read(GenerateRequest, asked.body))


def _begin(state: State, asked: AskedRequest, kek: str, store: str, database: UUID, dek_ids: tuple[int, ...]) -> int:
    """Returns the epoch before the DEKs exist. Raises StoreConflict for an id of an erased DEK."""
    state.users.note([kek], database, asked.facts["who"])
    asked.facts.update(kek=kek, store=store, database=str(database), dek_ids=dek_ids)
    if any(state.erasures.knows(database, dek_id) for dek_id in dek_ids):
        # A restored catalog counts from where it was. The id of an erased DEK is never given again.
        raise errors.StoreConflict()
    return state.epoch.value


async def _many(state: State, asked: AskedRequest, wanted: GenerateManyRequest) -> wire.Message:
    if wanted.label:
        asked.facts["label"] = wanted.label
    epoch = _begin(state, asked, wanted.kek, wanted.store, wanted.database_uuid, wanted.dek_ids)
    deks, made = await Generating(state.deks, wanted, asked.until).run(state.clock())
    if state.epoch.value == epoch:
        for key, opened in made.items():
            state.deks.keep(key, opened)
    return {"deks": deks}


async def _one(state: State, asked: AskedRequest, wanted: GenerateRequest) -> wire.Message:
    epoch = _begin(state, asked, wanted.kek, wanted.store, wanted.database_uuid, (wanted.dek_id,))
    kms, name = state.deks.kek(wanted.kek)
    store = store_of(kms, wanted.store)
    await kms.ready(name, asked.until)
    key = state.deks.key(wanted.database_uuid, wanted.dek_id, wanted.kek, wanted.store, None)
    wrapped = await kms.call("generate", asked.until, kms.provider.generate, name, context_of(key))
    kms.saw(name, kek_version(wrapped))
    opened = await _opened(state, kms, name, key, wrapped, asked.until)
    if store is not None:
        # Once only: after a lost answer a second try would meet its own entry.
        await kms.once("kv_write", asked.until, store.create, store_path(key), wrapped, wanted.kek, opened.fingerprint)
    if state.epoch.value == epoch:
        state.deks.keep(key._replace(wrapped=wrapped if store is None else None), opened)
    return {
        "wrapped": wrapped if store is None else None,
        "fingerprint": base64_text(opened.fingerprint),
        "kek_version": kek_version(wrapped),
    }


async def _opened(state: State, kms: Kms, name: str, key: CacheKey, wrapped: str, until: float) -> OpenedDek:
    """Lets the KMS open the new DEK, as a proof that it will open again."""
    items = [Item(context_of(key), wrapped)]
    dek = (await kms.batches("unwrap", until, kms.provider.unwrap, name, items))[0]
    if not isinstance(dek, bytes):
        raise dek
    return OpenedDek(dek, derivation.fingerprint(dek, key.dek_id), state.clock())


class Generating:
    """One `generate` request with `dek_ids`. It succeeds for all DEKs or for none."""

    def __init__(self, deks: OpenDeks, wanted: GenerateManyRequest, until: float) -> None:
        if wanted.store != "catalog":
            raise errors.BadInput("several DEKs at once are for the store 'catalog'")
        self._deks, self._wanted, self._until = deks, wanted, until
        self._kms, self._name = deks.kek(wanted.kek)

    async def run(self, now: float) -> tuple[list[wire.Message], dict[CacheKey, OpenedDek]]:
        """Returns the members of `deks` in the response, in the request's order, and the DEKs, for the cache."""
        await self._kms.ready(self._name, self._until)
        drawn = {self._key(dek_id): os.urandom(derivation.DEK_BYTES) for dek_id in self._wanted.dek_ids}
        wraps = await self._wrapped(drawn)
        await self._prove(drawn, wraps)
        opened = {key: OpenedDek(dek, derivation.fingerprint(dek, key.dek_id), now) for key, dek in drawn.items()}
        answers = [_answer(key, wraps[key], opened[key].fingerprint) for key in drawn]
        return answers, {key._replace(wrapped=wraps[key]): held for key, held in opened.items()}

    def _key(self, dek_id: int) -> CacheKey:
        database: UUID = self._wanted.database_uuid
        return self._deks.key(database, dek_id, self._wanted.kek, self._wanted.store, None)

    async def _wrapped(self, drawn: dict[CacheKey, bytes]) -> dict[CacheKey, str]:
        items = [Plain(context_of(key), dek) for key, dek in drawn.items()]
        results = await self._kms.batches("wrap", self._until, self._kms.provider.wrap, self._name, items)
        return {key: _present(result) for key, result in zip(drawn, results, strict=True)}

    async def _prove(self, drawn: dict[CacheKey, bytes], wraps: dict[CacheKey, str]) -> None:
        """Raises UnwrapFailed unless each wrap opens to its DEK."""
        items = [Item(context_of(key), wraps[key]) for key in drawn]
        results = await self._kms.batches("unwrap", self._until, self._kms.provider.unwrap, self._name, items)
        for dek, result in zip(drawn.values(), results, strict=True):
            if not derivation.same(_present(result), dek):
                raise errors.UnwrapFailed()


def _present(result: T | errors.EnvelopeError) -> T:
    if isinstance(result, errors.EnvelopeError):
        raise result
    return result


def _answer(key: CacheKey, wrapped: str, fingerprint: bytes) -> wire.Message:
    return {
        "dek_id": key.dek_id,
        "wrapped": wrapped,
        "fingerprint": base64_text(fingerprint),
        "kek_version": kek_version(wrapped),
    }
