"""Makes several new DEKs in one request, for the store catalog: drawn here, wrapped by the KMS, and proved to open."""

from __future__ import annotations

import base64
import os
from typing import TypeVar
from uuid import UUID

from pg_envelope import derivation, errors, wire
from pg_envelope.broker.keys.cache import CacheKey, OpenedDek
from pg_envelope.broker.keys.deks import OpenDeks, context_of
from pg_envelope.broker.kms.providers.base import Item, Plain, kek_version
from pg_envelope.broker.requests.messages import GenerateManyRequest

T = TypeVar("T")


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
        "fingerprint": base64.b64encode(fingerprint).decode(),
        "kek_version": kek_version(wrapped),
    }
