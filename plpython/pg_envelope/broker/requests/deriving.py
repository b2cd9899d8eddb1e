"""Derives field keys from DEKs, makes those of canaries, and signs statements: FORMAT.md sections 2, 4 and 5."""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from pg_envelope import derivation, errors, wire
from pg_envelope.broker.keys.cache import OpenedDek
from pg_envelope.broker.keys.deks import Answer
from pg_envelope.broker.requests import canaries, signing
from pg_envelope.broker.requests.asked import AskedRequest, Facts, base64_text, told_outcome
from pg_envelope.broker.requests.messages import DeriveRequest, PlantRequest, SignRequest
from pg_envelope.broker.requests.objects import DekRef, DekWithFields, FieldRef
from pg_envelope.broker.requests.reading import read
from pg_envelope.broker.requests.state import State
from pg_envelope.broker.watch import audit as audit_log

DERIVED_BETWEEN_PAUSES = 200


class DerivedKey(NamedTuple):
    """What the answer says of one key."""

    field: FieldRef
    message: wire.Message
    is_canary: bool = False

    @property
    def kept_back(self) -> DerivedKey:
        """The same key, when nobody has asked for it yet: a canary is for those who open it."""
        error = wire.error_body(errors.KeyNotFound())
        return DerivedKey(self.field, {"key_id": self.field.key_id, "error": error}) if self.is_canary else self


async def derive(state: State, asked: AskedRequest) -> wire.Message:
    wanted, epoch = read(DeriveRequest, asked.body), state.epoch.value
    state.users.note({dek.kek for dek in wanted.keys}, wanted.database_uuid, asked.facts["who"])
    asked.facts.update(_derive_facts(str(wanted.database_uuid), wanted.keys))
    if wanted.ahead:
        # The last ones of key_ids. No statement has asked for them yet; the session may use them now.
        asked.facts["read_ahead"] = wanted.ahead
    answers = await _resolved(state, wanted.database_uuid, wanted.keys, asked.until)
    derived: list[DerivedKey] = []
    for dek, answer in zip(wanted.keys, answers, strict=True):
        derived += await _field_keys(dek, answer)
    now = max(0, len(derived) - wanted.ahead)
    derived[now:] = [one.kept_back for one in derived[now:]]
    found = [one.message for one in derived]
    asked.facts.update(told_outcome(found), cached=all(answer.cached for answer in answers))
    opened = [one.field for one in derived if one.is_canary]
    if opened:
        await canaries.alarm(state, asked, wanted.database_uuid, opened)
    # No session keeps a canary's key, so each read of it asks anew. The epoch is the one from before. After a flush
    # during this request, the backend sees these keys as out of date.
    return {"ttl": 0.0 if opened else _ttl(state, answers), "epoch": epoch, "keys": found}


async def plant(state: State, asked: AskedRequest) -> wire.Message:
    wanted = read(PlantRequest, asked.body)
    asked.facts.update(
        database=str(wanted.database_uuid),
        kek=wanted.key.kek,
        dek_ids=[wanted.key.dek_id],
        key_ids=[field.key_id for field in wanted.fields],
        labels=sorted({field.label for field in wanted.fields}),
    )
    dek = (await _opened(state, wanted.database_uuid, wanted.key, asked.until)).dek
    salt = derivation.canary_salt(dek, os.urandom(derivation.DRAWN_BYTES))
    keys = [
        {
            "key_id": field.key_id,
            "key": base64_text(derivation.field_key(dek, salt, field.field_uuid, field.key_id)),
        }
        for field in wanted.fields
    ]
    return {"salt": base64_text(salt), "keys": keys}


async def sign(state: State, asked: AskedRequest) -> wire.Message:
    wanted = read(SignRequest, asked.body)
    asked.facts.update(_derive_facts(str(wanted.database_uuid), (wanted.key,)))
    dek = await _opened(state, wanted.database_uuid, wanted.key, asked.until)
    told = {
        "environment": state.config.broker.environment,
        "database": str(wanted.database_uuid),
        "who": asked.facts["who"],
    }
    signed = signing.sign(dek.dek, wanted.statement, {**told, "time": audit_log.now()})
    asked.facts["signed"] = hashlib.sha256(signed.text.encode()).hexdigest()
    return {
        "statement_signed": signed.text,
        "signature": base64_text(signed.signature),
        "public_key": base64_text(signed.public_key),
    }


async def _opened(state: State, database: UUID, dek: DekRef, until: float) -> OpenedDek:
    """Returns one DEK. Raises what stands in the way."""
    (answer,) = await _resolved(state, database, (dek,), until)
    error = _refusal(dek, answer.dek)
    if error is not None or not isinstance(answer.dek, OpenedDek):
        raise error or errors.Internal()
    return answer.dek


async def _resolved(state: State, database: UUID, deks: Sequence[DekRef], until: float) -> list[Answer]:
    """Returns an answer for each DEK. Erased DEKs are not unwrapped, nor given out if erased during the request."""
    wraps = [state.deks.key(database, dek.dek_id, dek.kek, dek.store, dek.wrapped) for dek in deks]
    dead = {wrap for wrap, dek in zip(wraps, deks, strict=True) if state.dead(database, dek)}
    asked = [wrap for wrap in wraps if wrap not in dead]
    answers = dict(zip(asked, await state.deks.resolve(asked, until), strict=True))
    return [
        answers[wrap] if not state.dead(database, dek) else Answer(errors.KeyDestroyed(), True, 0.0)
        for wrap, dek in zip(wraps, deks, strict=True)
    ]


def _ttl(state: State, answers: list[Answer]) -> float:
    lefts = [answer.left for answer in answers if isinstance(answer.dek, OpenedDek)]
    left = min(state.config.cache.session_ttl_seconds, *lefts) if lefts else 0.0
    return math.floor(max(0.0, left) * 1000) / 1000


async def _field_keys(dek: DekWithFields, answer: Answer) -> list[DerivedKey]:
    error = _refusal(dek, answer.dek)
    if error is not None or not isinstance(answer.dek, OpenedDek):
        body = wire.error_body(error or errors.Internal())
        return [DerivedKey(field, {"key_id": field.key_id, "error": body}) for field in dek.fields]
    found: list[DerivedKey] = []
    for count, field in enumerate(dek.fields, 1):
        key = derivation.field_key(answer.dek.dek, field.salt, field.field_uuid, field.key_id)
        message = {"key_id": field.key_id, "key": base64_text(key)}
        found.append(DerivedKey(field, message, derivation.is_canary(answer.dek.dek, field.salt)))
        if count % DERIVED_BETWEEN_PAUSES == 0:
            await asyncio.sleep(0)
    return found


def _refusal(dek: DekRef, found: OpenedDek | errors.EnvelopeError) -> errors.EnvelopeError | None:
    if isinstance(found, errors.EnvelopeError):
        return found
    # A cached DEK is checked, too: the fingerprint that the catalog has now must fit.
    return None if derivation.same(found.fingerprint, dek.fingerprint) else errors.UnwrapFailed()


def _derive_facts(database: str, deks: tuple[DekWithFields, ...]) -> Facts:
    fields = [field for dek in deks for field in dek.fields]
    return {
        "database": database,
        "kek": sorted({dek.kek for dek in deks}),
        "dek_ids": sorted({dek.dek_id for dek in deks}),
        "key_ids": [field.key_id for field in fields],
        "labels": sorted({field.label for field in fields}),
    }
