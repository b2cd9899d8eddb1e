"""Carries out an erase request: the entry in the ledger first, then the entries of the KMSs' stores.

A repeat goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from pg_envelope import errors, wire
from pg_envelope.broker.keys.deks import OpenDeks, store_of
from pg_envelope.broker.kms.kms import Kms
from pg_envelope.broker.kms.providers.base import Store
from pg_envelope.broker.ledger.erasures import DyingDek, Erasures
from pg_envelope.broker.requests.asked import AskedRequest, base64_text, told_outcome
from pg_envelope.broker.requests.messages import EraseRequest, ErasuresRequest
from pg_envelope.broker.requests.reading import read
from pg_envelope.broker.requests.state import State
from pg_envelope.broker.watch import audit

POLICY_HINT = (
    "Nothing was erased. Its policy must allow delete on the metadata of the key store: pg-envelope init --allow-shred"
)
AGAIN_HINT = "The broker opens the key for nobody any more. Its entry in the KMS's store is still there: call again."

TOLD = ("n", "time", "who", "label", "subject", "salt", "reason")


async def erase(state: State, asked: AskedRequest) -> wire.Message:
    wanted = read(EraseRequest, asked.body)
    asked.facts.update(database=str(wanted.database_uuid), label=wanted.label, reason=wanted.reason)
    asked.facts["dek_ids"] = [dek.dek_id for dek in wanted.deks]
    erasing = Erasing(state.deks, state.kms, state.erasures, wanted, asked.until)
    await erasing.prepare()
    if wanted.rehearse:
        asked.facts["rehearse"] = True
        return {"epoch": state.epoch.value, "deks": []}
    asked.facts["erased"] = erasing.record(asked.facts["who"])
    # A repeated request makes the line, too: the broker may have died before it wrote the first.
    state.deks.forget(wanted.database_uuid, {dek.dek_id for dek in wanted.deks})
    asked.facts["epoch"] = state.epoch.bump()
    found = await erasing.destroy()
    asked.facts.update(told_outcome(found))
    return {"epoch": asked.facts["epoch"], "deks": found}


async def erased(state: State, asked: AskedRequest) -> wire.Message:
    wanted = read(ErasuresRequest, asked.body)
    asked.facts["database"] = str(wanted.database_uuid)
    if wanted.verify:
        await state.ledger_check.run()
    proof = state.erasures.proof
    return {
        "lines": proof.lines,
        "head": proof.head,
        "public_key": base64_text(state.erasures.public_key),
        "count": state.erasures.count(wanted.database_uuid),
        "entries": state.erasures.page(wanted.database_uuid, wanted.after, wanted.most),
        "dead": [dek.dek_id for dek in wanted.deks if state.dead(wanted.database_uuid, dek)],
        "others": state.sightings.others(wanted.database_uuid, asked.facts["who"].get("instance")),
    }


class Erasing:
    """Erases in three steps: `prepare` changes nothing, after `record` the DEKs are dead, `destroy` removes stores'
    entries.
    """

    def __init__(
        self, deks: OpenDeks, kms: Mapping[str, Kms], erasures: Erasures, wanted: EraseRequest, until: float
    ) -> None:
        self._deks, self._kms, self._erasures = deks, kms, erasures
        self._wanted, self._until = wanted, until

    async def prepare(self) -> None:
        """Asks each store to delete DEK id 0, which has no entry. A store that may not delete refuses now, before
        anything is dead.
        """
        for kms, store in {place for dek in self._wanted.deks if (place := self._own(dek)) is not None}:
            try:
                await self._destroy(kms, store, 0)
            except errors.KmsDenied:
                raise errors.KmsDenied("the KMS does not let the broker delete keys", hint=POLICY_HINT) from None

    def record(self, who: dict[str, str | int]) -> list[int]:
        """Writes those DEKs to the ledger that it does not have yet. Returns their ids."""
        wanted = self._wanted
        alive = [dek for dek in wanted.deks if not self._entry(dek)]
        by = {name: who[name] for name in ("role", "acting") if name in who}
        if alive:
            facts = {"label": wanted.label, "subject": wanted.subject, "salt": wanted.salt, "reason": wanted.reason}
            self._erasures.add(wanted.database_uuid, alive, {"time": audit.now(), "who": by, **facts})
        return [dek.dek_id for dek in alive]

    async def destroy(self) -> list[wire.Message]:
        """Returns the members of `deks` in the response: the ledger's entry of each, and the error of a store that
        refused.
        """
        return list(await asyncio.gather(*map(self._destroyed, self._wanted.deks)))

    async def _destroyed(self, dek: DyingDek) -> wire.Message:
        entry = self._entry(dek)
        if entry is None:
            raise errors.Internal
        answer: wire.Message = {"dek_id": dek.dek_id, "entry": {name: entry[name] for name in TOLD}}
        try:
            if (own := self._own(dek)) is not None:
                await self._destroy(*own, dek.dek_id)
        except errors.EnvelopeError as error:
            error.hint = AGAIN_HINT
            answer["error"] = wire.error_body(error)
        answer["unchecked"] = [name for name, kms in self._kms.items() if not await self._swept(kms, dek)]
        return answer

    async def _swept(self, kms: Kms, dek: DyingDek) -> bool:
        """Removes an entry that a move left in another KMS's store. Returns False when the store cannot be searched."""
        store = kms.provider.store
        if store is None or self._own(dek) == (kms, store):
            return True
        try:
            await kms.call("kv_read", self._until, store.read, self._path(dek.dek_id))
            await self._destroy(kms, store, dek.dek_id)
        except errors.KeyNotFound:
            return True
        except errors.EnvelopeError:
            return False
        return True

    async def _destroy(self, kms: Kms, store: Store, dek_id: int) -> None:
        await kms.call("kv_destroy", self._until, store.destroy, self._path(dek_id))

    def _own(self, dek: DyingDek) -> tuple[Kms, Store] | None:
        """Returns the store that keeps the DEK, if the catalog does not keep it."""
        if dek.store == "catalog":
            return None
        kms, _ = self._deks.kek(dek.kek)
        store = store_of(kms, dek.store)
        return None if store is None else (kms, store)

    def _path(self, dek_id: int) -> str:
        return f"{self._wanted.database_uuid}/{dek_id}"

    def _entry(self, dek: DyingDek) -> wire.Message | None:
        return self._erasures.entry(self._wanted.database_uuid, dek.dek_id, dek.fingerprint)
