"""The operations of the broker: FORMAT.md section 4."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import math
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pg_envelope import derivation, errors, wire
from pg_envelope.broker.keys.cache import CacheKey, OpenedDek
from pg_envelope.broker.keys.deks import Answer, OpenDeks, context_of, store_of, store_path
from pg_envelope.broker.keys.epoch import EpochFile
from pg_envelope.broker.kms.kms import Kms
from pg_envelope.broker.kms.providers.base import Item, kek_version
from pg_envelope.broker.ledger.erasures import Erasures
from pg_envelope.broker.requests import messages, rekey, signing, status
from pg_envelope.broker.requests.erasing import Erasing
from pg_envelope.broker.requests.generating import Generating
from pg_envelope.broker.requests.keys_backup import BackupReturner, BackupSealer
from pg_envelope.broker.requests.messages import DekWithFields, GenerateManyRequest, GenerateRequest, Request
from pg_envelope.broker.requests.moving import Moving
from pg_envelope.broker.requests.proving import Proving
from pg_envelope.broker.requests.reading import read
from pg_envelope.broker.requests.rewrap import Rewrapping
from pg_envelope.broker.requests.sightings import Sightings
from pg_envelope.broker.requests.users import KekUsers
from pg_envelope.broker.settings.config import Config
from pg_envelope.broker.watch import audit as audit_log
from pg_envelope.broker.watch.audit import Audit
from pg_envelope.broker.watch.metrics import Metrics
from pg_envelope.broker.watch.repeats import Repeats

log = logging.getLogger(__name__)

Facts = dict[str, Any]
Response = wire.Message | errors.EnvelopeError
DERIVED_BETWEEN_PAUSES = 200
SHOWN = 10
# A status for which somebody waits, also while a KMS is wedged.
LOOK_SECONDS = 2.0
UNRECORDED = {"status", "schedule", "erasures", "prove"}
REPEATED = {"derive", "refused"}
REVOKING = {"flush", "erase"}


@dataclass(frozen=True)
class AskedRequest:
    """A request under way: its body, when its time is over, and what the audit log will tell about it."""

    body: wire.Message
    until: float
    facts: Facts


Handler = Callable[[AskedRequest], Awaitable[wire.Message]]


class Service:
    """Answers one request at a time of each connection; state is shared through `deks` and `epoch`."""

    def __init__(
        self,
        config: Config,
        kms: Mapping[str, Kms],
        deks: OpenDeks,
        epoch: EpochFile,
        audit: Audit,
        metrics: Metrics,
        clock: Callable[[], float],
        erasures: Erasures,
    ) -> None:
        self._config, self._kms, self._deks, self._epoch = config, kms, deks, epoch
        self._audit, self._metrics, self._clock, self._erasures = audit, metrics, clock, erasures
        self._backup_sealer = BackupSealer(config.broker, deks)
        self._return = BackupReturner(config.broker, deks, clock)
        self._users = KekUsers()
        self._sightings = Sightings(clock)
        self._verifying: asyncio.Future[None] | None = None
        self.waiting = 0
        self.repeats = Repeats(audit, config.broker.audit_repeats_seconds, clock, metrics.repeats)
        self._handlers: dict[str, Handler] = {
            "status": self._status,
            "generate": self._generate,
            "derive": self._derive,
            "rewrap": self._rewrap,
            "rotate_kek": self._rotate_kek,
            "flush": self._flush,
            "schedule": self._schedule,
            "record": self._record,
            "sign": self._sign,
            "erase": self._erase,
            "erasures": self._erased,
            "keys_backup": self._keys_backup,
            "keys_return": self._keys_return,
            "refused": self._refused,
            "prove": self._prove,
        }

    async def answer(self, message: wire.Message, peer: Facts) -> wire.Message:
        """The response to a request, also when it fails. `peer` (uid, pid) goes to the audit log."""
        start, op, facts = self._clock(), "unknown", Facts(peer=peer)
        response: Response
        try:
            request = messages.request(message)
            op, facts["who"] = request.op, request.who
            self._sightings.note(message, request.who)
            rekey.check_environment(request.environment, self._config.broker)
            response = await self._bounded(request, message, start, facts)
        except errors.EnvelopeError as error:
            response = error
        response = self._recorded(op, response, facts)
        self._metrics.seconds.observe(self._clock() - start, op)
        if isinstance(response, errors.EnvelopeError):
            self._metrics.requests.add(op, response.code)
            return wire.failure(response)
        self._metrics.requests.add(op, "ok")
        return {"v": wire.PROTOCOL, "ok": True, **response}

    async def _bounded(self, request: Request, message: wire.Message, start: float, facts: Facts) -> wire.Message:
        """Within the number of requests and the time that are allowed; nothing but EnvelopeErrors comes out."""
        if self.waiting >= self._config.broker.max_requests:
            raise errors.Overloaded()
        seconds = min(request.deadline_ms, self._config.broker.deadline_ms) / 1000
        self.waiting += 1
        try:
            async with asyncio.timeout(seconds):
                return await self._handlers[request.op](AskedRequest(message, start + seconds, facts))
        except TimeoutError:
            raise errors.Deadline() from None
        except errors.EnvelopeError:
            raise
        except Exception as error:
            # The log gets only the place of the error, because its text could hold a secret.
            log.error(
                "%s in %s:\n%s", type(error).__name__, request.op, "".join(traceback.format_tb(error.__traceback__))
            )
            raise errors.Internal() from None
        finally:
            self.waiting -= 1

    def _recorded(self, op: str, response: Response, facts: Facts) -> Response:
        """Writes the audit event. Gives back the response, or the error when it cannot: then nothing must leave."""
        error = response if isinstance(response, errors.EnvelopeError) else None
        if op in UNRECORDED and error is None:
            return response
        outcome = {"outcome": "failed", "error": error.code} if error else {"outcome": "ok"}
        try:
            self._record_facts(op, {"op": op, **outcome, **facts})
        except errors.EnvelopeError as failed:
            log.error("%s", failed.said)
            return failed
        return response

    def _record_facts(self, op: str, facts: Facts) -> None:
        if op in REPEATED:
            self.repeats.write("request", **facts)
            return
        if op in REVOKING:
            self.repeats.tell_all()
        self._audit.write("request", **facts)

    async def _status(self, asked: AskedRequest) -> wire.Message:
        if looked := read(messages.StatusRequest, asked.body).looked(self._config.kek):
            await self._look(looked, min(asked.until, self._clock() + LOOK_SECONDS))
        told = status.report(self._config, self._deks, self._kms, self._epoch.value, self._users)
        return {**told, "audit": self._audit_state()}

    async def _look(self, keks: list[str], until: float) -> None:
        """Asks for KEKs now, as the probe does at its times; what is found is remembered, a problem too."""
        known = [self._deks.kek(name) for name in keks]
        await asyncio.gather(*(kms.probe(key, until) for kms, key in known), return_exceptions=True)

    def _audit_state(self) -> wire.Message | None:
        found = self._audit.problem()
        return None if found is None else dict(zip(("state", "detail", "hint"), found, strict=True))

    async def _generate(self, asked: AskedRequest) -> wire.Message:
        if "dek_ids" in asked.body:
            return await self._generate_many(asked, read(messages.GenerateManyRequest, asked.body))
        return await self._generate_one(asked, read(messages.GenerateRequest, asked.body))

    def _begin(self, asked: AskedRequest, kek: str, store: str, database: UUID, dek_ids: tuple[int, ...]) -> int:
        """The epoch before the DEKs exist. Raises StoreConflict for an id of an erased DEK."""
        self._users.note([kek], database, asked.facts["who"])
        asked.facts.update(kek=kek, store=store, database=str(database), dek_ids=dek_ids)
        if any(self._erasures.knows(database, dek_id) for dek_id in dek_ids):
            # A restored catalog counts from where it was. The id of an erased DEK is never given again.
            raise errors.StoreConflict()
        return self._epoch.value

    async def _generate_many(self, asked: AskedRequest, wanted: GenerateManyRequest) -> wire.Message:
        if wanted.label:
            asked.facts["label"] = wanted.label
        epoch = self._begin(asked, wanted.kek, wanted.store, wanted.database_uuid, wanted.dek_ids)
        deks, made = await Generating(self._deks, wanted, asked.until).run(self._clock())
        if self._epoch.value == epoch:
            for key, opened in made.items():
                self._deks.keep(key, opened)
        return {"deks": deks}

    async def _generate_one(self, asked: AskedRequest, wanted: GenerateRequest) -> wire.Message:
        epoch = self._begin(asked, wanted.kek, wanted.store, wanted.database_uuid, (wanted.dek_id,))
        kms, name = self._deks.kek(wanted.kek)
        store = store_of(kms, wanted.store)
        await kms.ready(name, asked.until)
        key = self._deks.key(wanted.database_uuid, wanted.dek_id, wanted.kek, wanted.store, None)
        wrapped = await kms.call("generate", asked.until, kms.provider.generate, name, context_of(key))
        kms.saw(name, kek_version(wrapped))
        opened = await self._open(kms, name, key, wrapped, asked.until)
        if store is not None:
            # Once only: after a lost answer a second try would meet its own entry.
            await kms.once(
                "kv_write", asked.until, store.create, store_path(key), wrapped, wanted.kek, opened.fingerprint
            )
        if self._epoch.value == epoch:
            self._deks.keep(key._replace(wrapped=wrapped if store is None else None), opened)
        return {
            "wrapped": wrapped if store is None else None,
            "fingerprint": _base64(opened.fingerprint),
            "kek_version": kek_version(wrapped),
        }

    async def _open(self, kms: Kms, name: str, key: CacheKey, wrapped: str, until: float) -> OpenedDek:
        """The new DEK, opened by the KMS: proof that it will open again."""
        items = [Item(context_of(key), wrapped)]
        dek = (await kms.batches("unwrap", until, kms.provider.unwrap, name, items))[0]
        if not isinstance(dek, bytes):
            raise dek
        return OpenedDek(dek, derivation.fingerprint(dek, key.dek_id), self._clock())

    async def _derive(self, asked: AskedRequest) -> wire.Message:
        wanted, epoch = read(messages.DeriveRequest, asked.body), self._epoch.value
        self._users.note({dek.kek for dek in wanted.keys}, wanted.database_uuid, asked.facts["who"])
        asked.facts.update(_derive_facts(str(wanted.database_uuid), wanted.keys))
        if wanted.ahead:
            # The last ones of key_ids. No statement has asked for them yet; the session may use them now.
            asked.facts["read_ahead"] = wanted.ahead
        answers = await self._resolved(wanted.database_uuid, wanted.keys, asked.until)
        found: list[wire.Message] = []
        for dek, answer in zip(wanted.keys, answers, strict=True):
            found += await _field_keys(dek, answer)
        asked.facts.update(_outcome(found), cached=all(answer.cached for answer in answers))
        # The epoch from before. After a flush during this request, the backend sees these keys as out of date.
        return {"ttl": self._ttl(answers), "epoch": epoch, "keys": found}

    async def _resolved(self, database: UUID, deks: tuple[DekWithFields, ...], until: float) -> list[Answer]:
        """An answer for each DEK. An erased DEK is not unwrapped. One erased during the request is not given out."""
        wraps = [self._deks.key(database, dek.dek_id, dek.kek, dek.store, dek.wrapped) for dek in deks]
        dead = {wrap for wrap, dek in zip(wraps, deks, strict=True) if self._dead(database, dek)}
        asked = [wrap for wrap in wraps if wrap not in dead]
        answers = dict(zip(asked, await self._deks.resolve(asked, until), strict=True))
        return [
            answers[wrap] if not self._dead(database, dek) else Answer(errors.KeyDestroyed(), True, 0.0)
            for wrap, dek in zip(wraps, deks, strict=True)
        ]

    def _dead(self, database: UUID, dek: messages.DekIdentity) -> bool:
        return self._erasures.dead(database, dek.dek_id, dek.fingerprint)

    def _refuse_dead(self, database: UUID, deks: Sequence[messages.DekIdentity]) -> None:
        """Raises KeyDestroyed when a DEK was erased that the catalog still has: it was restored."""
        dead = [str(dek.dek_id) for dek in deks if self._dead(database, dek)]
        if dead:
            raise errors.KeyDestroyed(detail=f"DEK {', '.join(dead[:SHOWN])}", hint="SELECT envelope.replay_erasures()")

    def _ttl(self, answers: list[Answer]) -> float:
        lefts = [answer.left for answer in answers if isinstance(answer.dek, OpenedDek)]
        left = min(self._config.cache.session_ttl_seconds, *lefts) if lefts else 0.0
        return math.floor(max(0.0, left) * 1000) / 1000

    async def _rewrap(self, asked: AskedRequest) -> wire.Message:
        wanted = read(messages.RewrapRequest, asked.body)
        self._users.note([wanted.kek], wanted.database_uuid, asked.facts["who"])
        asked.facts.update(kek=wanted.kek, store=wanted.store, database=str(wanted.database_uuid))
        asked.facts.update(dek_ids=[dek.dek_id for dek in wanted.deks])
        self._refuse_dead(wanted.database_uuid, wanted.deks)
        if wanted.source is None:
            found = await Rewrapping(self._deks, wanted, asked.until).run()
        else:
            asked.facts.update(from_kek=wanted.source[0], from_store=wanted.source[1])
            if wanted.origin is not None:
                asked.facts.update(from_environment=wanted.origin[0], from_database=str(wanted.origin[1]))
                rekey.check_origin(wanted.origin, self._config.broker)
                self._refuse_dead(wanted.origin[1], wanted.deks)
            found = await Moving(self._deks, wanted, wanted.source, asked.until).run()
        asked.facts.update(_outcome(found))
        return {"deks": found}

    async def _rotate_kek(self, asked: AskedRequest) -> wire.Message:
        wanted = read(messages.RotateKekRequest, asked.body)
        asked.facts["kek"] = wanted.kek
        kms, name = self._deks.kek(wanted.kek)
        await kms.probe(name, asked.until)
        kms.check_version(name, wanted.kek_version)
        version = await kms.once("rotate", asked.until, kms.provider.rotate, name)
        kms.saw(name, version)
        asked.facts["kek_version"] = version
        return {"kek_version": version}

    async def _schedule(self, asked: AskedRequest) -> wire.Message:
        told = read(messages.ScheduleRequest, asked.body)
        self._metrics.overdue.set(str(asked.facts["who"].get("database", "")), to=told.overdue)
        return {}

    async def _flush(self, asked: AskedRequest) -> wire.Message:
        asked.facts["reason"] = read(messages.FlushRequest, asked.body).reason
        return {"epoch": self.flush(asked.facts)}

    async def _record(self, asked: AskedRequest) -> wire.Message:
        told = read(messages.RecordRequest, asked.body)
        asked.facts.update(database=str(told.database_uuid), action=told.action, label=told.label, reason=told.reason)
        asked.facts["transitions"] = [one.told() for one in told.transitions]
        return {}

    async def _refused(self, asked: AskedRequest) -> wire.Message:
        asked.facts.update(read(messages.RefusedRequest, asked.body).told(), outcome="refused")
        return {}

    async def _prove(self, asked: AskedRequest) -> wire.Message:
        wanted = read(messages.ProveRequest, asked.body)
        asked.facts.update(database=str(wanted.database_uuid), dek_ids=[dek.dek_id for dek in wanted.deks])
        dead = {dek.dek_id for dek in wanted.deks if self._dead(wanted.database_uuid, dek)}
        return {"deks": await Proving(self._deks, wanted, dead, asked.until).run()}

    async def _keys_backup(self, asked: AskedRequest) -> wire.Message:
        wanted = read(messages.KeysBackupRequest, asked.body)
        asked.facts.update(database=str(wanted.database_uuid), dek_ids=[dek.dek_id for dek in wanted.deks])
        self._refuse_dead(wanted.database_uuid, wanted.deks)
        answer = await self._backup_sealer.run(wanted, asked.until)
        asked.facts.update(_outcome(answer["deks"]), public_key=answer["public_key"])
        return answer

    async def _keys_return(self, asked: AskedRequest) -> wire.Message:
        wanted = read(messages.KeysReturnRequest, asked.body)
        asked.facts.update(
            database=str(wanted.database_uuid), kek=wanted.kek, dek_ids=[dek.dek_id for dek in wanted.deks]
        )
        self._refuse_dead(wanted.database_uuid, wanted.deks)
        answer = await self._return.run(wanted, asked.until)
        asked.facts.update(_outcome(answer["deks"]))
        return answer

    async def _sign(self, asked: AskedRequest) -> wire.Message:
        wanted = read(messages.SignRequest, asked.body)
        asked.facts.update(_derive_facts(str(wanted.database_uuid), (wanted.key,)))
        dek = wanted.key
        (answer,) = await self._resolved(wanted.database_uuid, (dek,), asked.until)
        error = _refusal(dek, answer.dek)
        if error is not None or not isinstance(answer.dek, OpenedDek):
            raise error or errors.Internal()
        told = {
            "environment": self._config.broker.environment,
            "database": str(wanted.database_uuid),
            "who": asked.facts["who"],
        }
        signed = signing.sign(answer.dek.dek, wanted.statement, {**told, "time": audit_log.now()})
        asked.facts["signed"] = hashlib.sha256(signed.text.encode()).hexdigest()
        return {
            "statement_signed": signed.text,
            "signature": _base64(signed.signature),
            "public_key": _base64(signed.public_key),
        }

    async def _erase(self, asked: AskedRequest) -> wire.Message:
        wanted = read(messages.EraseRequest, asked.body)
        asked.facts.update(database=str(wanted.database_uuid), label=wanted.label, reason=wanted.reason)
        asked.facts["dek_ids"] = [dek.dek_id for dek in wanted.deks]
        erasing = Erasing(self._deks, self._kms, self._erasures, wanted, asked.until)
        await erasing.prepare()
        asked.facts["erased"] = erasing.record(asked.facts["who"])
        # A repeated request makes the line, too: the broker may have died before it wrote the first.
        self._deks.forget(wanted.database_uuid, {dek.dek_id for dek in wanted.deks})
        asked.facts["epoch"] = self._epoch.bump()
        found = await erasing.destroy()
        asked.facts.update(_outcome(found))
        return {"epoch": asked.facts["epoch"], "deks": found}

    async def _erased(self, asked: AskedRequest) -> wire.Message:
        wanted = read(messages.ErasuresRequest, asked.body)
        asked.facts["database"] = str(wanted.database_uuid)
        if wanted.verify:
            await self._verify_ledger()
        proof = self._erasures.proof
        return {
            "lines": proof.lines,
            "head": proof.head,
            "public_key": _base64(self._erasures.public_key),
            "count": self._erasures.count(wanted.database_uuid),
            "entries": self._erasures.page(wanted.database_uuid, wanted.after, wanted.most),
            "dead": [dek.dek_id for dek in wanted.deks if self._dead(wanted.database_uuid, dek)],
            "others": self._sightings.others(wanted.database_uuid, asked.facts["who"].get("instance")),
        }

    async def _verify_ledger(self) -> None:
        """One thread at a time. It goes on after the deadline of the request, and a later request finds its result."""
        if self._verifying is None or self._verifying.done():
            self._verifying = asyncio.ensure_future(asyncio.to_thread(self._erasures.verify))
        await asyncio.shield(self._verifying)

    def flush(self, facts: Facts) -> int:
        """Bumps the epoch and empties the cache, with nothing in between that could hand out an old key."""
        value = self._epoch.bump()
        facts.update(epoch=value, count=self._deks.drop_all())
        return value


async def _field_keys(dek: DekWithFields, answer: Answer) -> list[wire.Message]:
    error = _refusal(dek, answer.dek)
    if error is not None or not isinstance(answer.dek, OpenedDek):
        body = wire.error_body(error or errors.Internal())
        return [{"key_id": field.key_id, "error": body} for field in dek.fields]
    found: list[wire.Message] = []
    for count, field in enumerate(dek.fields, 1):
        key = derivation.field_key(answer.dek.dek, field.salt, field.field_uuid, field.key_id)
        found.append({"key_id": field.key_id, "key": _base64(key)})
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


def _outcome(found: list[wire.Message]) -> Facts:
    """How many succeeded, and the codes of those that did not."""
    failed = [item["error"]["code"] for item in found if "error" in item]
    facts: Facts = {"count": len(found) - len(failed)}
    if failed:
        facts.update(outcome="failed" if len(failed) == len(found) else "partial", error=sorted(set(failed)))
    return facts


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
