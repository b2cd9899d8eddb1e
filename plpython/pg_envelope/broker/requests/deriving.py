"""Derives field keys from DEKs, and signs statements with a DEK: FORMAT.md sections 2, 4 and 5."""

from __future__ import annotations

import asyncio
import hashlib
import math
from uuid import UUID

from pg_envelope import derivation, errors, wire
from pg_envelope.broker.keys.cache import OpenedDek
from pg_envelope.broker.keys.deks import Answer
from pg_envelope.broker.requests import signing
from pg_envelope.broker.requests.asked import AskedRequest, Facts, base64_text, told_outcome
from pg_envelope.broker.requests.messages import DekWithFields, DeriveRequest, SignRequest
from pg_envelope.broker.requests.reading import read
from pg_envelope.broker.requests.state import State
from pg_envelope.broker.watch import audit as audit_log

DERIVED_BETWEEN_PAUSES = 200


async def derive(state: State, asked: AskedRequest) -> wire.Message:
    wanted, epoch = read(DeriveRequest, asked.body), state.epoch.value
    state.users.note({dek.kek for dek in wanted.keys}, wanted.database_uuid, asked.facts["who"])
    asked.facts.update(_derive_facts(str(wanted.database_uuid), wanted.keys))
    if wanted.ahead:
        # The last ones of key_ids. No statement has asked for them yet; the session may use them now.
        asked.facts["read_ahead"] = wanted.ahead
    answers = await _resolved(state, wanted.database_uuid, wanted.keys, asked.until)
    found: list[wire.Message] = []
    for dek, answer in zip(wanted.keys, answers, strict=True):
        found += await _field_keys(dek, answer)
    asked.facts.update(told_outcome(found), cached=all(answer.cached for answer in answers))
    # The epoch from before. After a flush during this request, the backend sees these keys as out of date.
    return {"ttl": _ttl(state, answers), "epoch": epoch, "keys": found}


async def sign(state: State, asked: AskedRequest) -> wire.Message:
    wanted = read(SignRequest, asked.body)
    asked.facts.update(_derive_facts(str(wanted.database_uuid), (wanted.key,)))
    dek = wanted.key
    (answer,) = await _resolved(state, wanted.database_uuid, (dek,), asked.until)
    error = _refusal(dek, answer.dek)
    if error is not None or not isinstance(answer.dek, OpenedDek):
        raise error or errors.Internal()
    told = {
        "environment": state.config.broker.environment,
        "database": str(wanted.database_uuid),
        "who": asked.facts["who"],
    }
    signed = signing.sign(answer.dek.dek, wanted.statement, {**told, "time": audit_log.now()})
    asked.facts["signed"] = hashlib.sha256(signed.text.encode()).hexdigest()
    return {
        "statement_signed": signed.text,
        "signature": base64_text(signed.signature),
        "public_key": base64_text(signed.public_key),
    }


async def _resolved(state: State, database: UUID, deks: tuple[DekWithFields, ...], until: float) -> list[Answer]:
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


async def _field_keys(dek: DekWithFields, answer: Answer) -> list[wire.Message]:
    error = _refusal(dek, answer.dek)
    if error is not None or not isinstance(answer.dek, OpenedDek):
        body = wire.error_body(error or errors.Internal())
        return [{"key_id": field.key_id, "error": body} for field in dek.fields]
    found: list[wire.Message] = []
    for count, field in enumerate(dek.fields, 1):
        key = derivation.field_key(answer.dek.dek, field.salt, field.field_uuid, field.key_id)
        found.append({"key_id": field.key_id, "key": base64_text(key)})
        if count % DERIVED_BETWEEN_PAUSES == 0:
            await asyncio.sleep(0)
    return found


def _refusal(dek: DekWithFields, found: OpenedDek | errors.EnvelopeError) -> errors.EnvelopeError | None:
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
