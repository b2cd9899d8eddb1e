"""Finds out whether wrapped DEKs still open in the KMS: FORMAT.md section 4, `prove`.

It asks the KMS even for DEKs in the cache, and leaves the cache as it is. When the KMS has lost something, the cache
may be the last place that has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Mapping

from pg_envelope import derivation, errors, wire
from pg_envelope.broker.keys.cache import CacheKey
from pg_envelope.broker.keys.deks import OpenDeks, Source, context_of
from pg_envelope.broker.kms.kms import Kms
from pg_envelope.broker.kms.providers.base import Item
from pg_envelope.broker.requests.asked import AskedRequest
from pg_envelope.broker.requests.messages import ProveRequest
from pg_envelope.broker.requests.reading import read
from pg_envelope.broker.requests.state import State

Found = Source | errors.EnvelopeError
Problem = errors.EnvelopeError | None


async def prove(state: State, asked: AskedRequest) -> wire.Message:
    wanted = read(ProveRequest, asked.body)
    asked.facts.update(database=str(wanted.database_uuid), dek_ids=[dek.dek_id for dek in wanted.deks])
    dead = {dek.dek_id for dek in wanted.deks if state.dead(wanted.database_uuid, dek)}
    return {"deks": await Proving(state.deks, wanted, dead, asked.until).run()}


class Proving:
    """Handles one request. A DEK that does not open does not stop the others."""

    def __init__(self, deks: OpenDeks, wanted: ProveRequest, dead: Container[int], until: float) -> None:
        """`dead` holds the ids of DEKs that the ledger knows as erased."""
        self._deks, self._dead, self._until = deks, dead, until
        self._refs = {
            deks.key(wanted.database_uuid, dek.dek_id, dek.kek, dek.store, dek.wrapped): dek for dek in wanted.deks
        }

    async def run(self) -> list[wire.Message]:
        """Returns the members of `deks` in the response, in the request's order."""
        by_kek: dict[str, list[CacheKey]] = {}
        for key in (key for key in self._refs if key.dek_id not in self._dead):
            by_kek.setdefault(key.kek, []).append(key)
        groups = await asyncio.gather(*(self._group(kek, group) for kek, group in by_kek.items()))
        found = {key: problem for group in groups for key, problem in group.items()}
        return [_answer(key, found.get(key, errors.KeyDestroyed())) for key in self._refs]

    async def _group(self, kek: str, group: list[CacheKey]) -> dict[CacheKey, Problem]:
        try:
            kms, name = self._deks.kek(kek)
            await kms.ready(name, self._until)
        except errors.EnvelopeError as error:
            return dict.fromkeys(group, error)
        sources = await asyncio.gather(*(self._deks.source(kms, name, key, self._until) for key in group))
        return await self._opened(kms, dict(zip(group, sources, strict=True)))

    async def _opened(self, kms: Kms, sources: Mapping[CacheKey, Found]) -> dict[CacheKey, Problem]:
        found: dict[CacheKey, Problem] = {}
        by_name: dict[str, list[tuple[CacheKey, Item]]] = {}
        for key, source in sources.items():
            if isinstance(source, Source):
                by_name.setdefault(source.name, []).append((key, Item(context_of(key), source.wrapped)))
            else:
                found[key] = source
        for name, pairs in by_name.items():
            items = [item for _, item in pairs]
            results = await kms.batches("unwrap", self._until, kms.provider.unwrap, name, items)
            found |= {key: self._problem(key, result) for (key, _), result in zip(pairs, results, strict=True)}
        return found

    def _problem(self, key: CacheKey, result: bytes | errors.EnvelopeError) -> Problem:
        if isinstance(result, errors.EnvelopeError):
            return result
        same = derivation.same(derivation.fingerprint(result, key.dek_id), self._refs[key].fingerprint)
        return None if same else errors.UnwrapFailed()


def _answer(key: CacheKey, problem: Problem) -> wire.Message:
    return {"dek_id": key.dek_id, **({} if problem is None else {"error": wire.error_body(problem)})}
