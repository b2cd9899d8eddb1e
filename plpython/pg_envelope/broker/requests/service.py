"""Answers requests: reads what is asked, hands it to the module for that operation, and writes the audit log."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping

from pg_envelope import errors, wire
from pg_envelope.broker.keys.deks import OpenDeks
from pg_envelope.broker.keys.epoch import EpochFile
from pg_envelope.broker.kms.kms import Kms
from pg_envelope.broker.ledger.erasures import Erasures
from pg_envelope.broker.ledger.limits import ReadLimits
from pg_envelope.broker.ledger.recorder import ReadRecorder
from pg_envelope.broker.requests import (
    backing_up,
    deriving,
    erasing,
    generating,
    messages,
    proving,
    rekey,
    rewrap,
    ringing,
    telling,
)
from pg_envelope.broker.requests.asked import AskedRequest, Carried, Facts
from pg_envelope.broker.requests.keys_backup import BackupReturner, BackupSealer
from pg_envelope.broker.requests.messages import Request
from pg_envelope.broker.requests.sightings import Sightings
from pg_envelope.broker.requests.state import LedgerCheck, State
from pg_envelope.broker.requests.users import KekUsers
from pg_envelope.broker.settings.config import Config
from pg_envelope.broker.watch.audit import Audit
from pg_envelope.broker.watch.metrics import Metrics
from pg_envelope.broker.watch.repeats import Repeats

log = logging.getLogger(__name__)

Response = wire.Message | errors.EnvelopeError
Handler = Callable[[State, AskedRequest], Awaitable[wire.Message]]

HANDLERS: Mapping[str, Handler] = {
    "status": telling.status,
    "generate": generating.generate,
    "derive": deriving.derive,
    "rewrap": rewrap.rewrap,
    "rotate_kek": rewrap.rotate_kek,
    "flush": telling.flush,
    "schedule": telling.schedule,
    "record": telling.record,
    "sign": deriving.sign,
    "plant": deriving.plant,
    "erase": erasing.erase,
    "erasures": erasing.erased,
    "keys_backup": backing_up.keys_backup,
    "keys_return": backing_up.keys_return,
    "refused": telling.refused,
    "failed": telling.failed,
    "prove": proving.prove,
    "attach": ringing.attach,
    "drain": ringing.drain,
    "spend": ringing.spend,
}
UNRECORDED = {"status", "schedule", "erasures", "prove", "attach", "drain", "spend", "failed"}
REPEATED = {"derive", "refused"}
REVOKING = {"flush", "erase"}


class Service:
    """Answers one request at a time of each connection; the parts in `state` are shared by all of them."""

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
        reads: ReadRecorder,
    ) -> None:
        self._state = State(
            config=config,
            kms=kms,
            deks=deks,
            epoch=epoch,
            erasures=erasures,
            audit=audit,
            metrics=metrics,
            clock=clock,
            users=KekUsers(),
            sightings=Sightings(clock),
            sealer=BackupSealer(config.broker, deks),
            returner=BackupReturner(config.broker, deks, clock),
            ledger_check=LedgerCheck(erasures),
            reads=reads,
            limits=ReadLimits(clock),
        )
        self.waiting = 0
        self.repeats = Repeats(audit, config.broker.audit_repeats_seconds, clock, metrics.repeats)

    async def ended(self, carried: Carried) -> None:
        """Takes the last events of a connection that is over."""
        if carried.ring is not None:
            await self._state.reads.detach(carried.ring)

    async def answer(self, message: wire.Message, peer: Facts, carried: Carried | None = None) -> wire.Message:
        """The response to a request, also when it fails. `peer` (uid, pid) goes to the audit log."""
        start, op, facts = self._state.clock(), "unknown", Facts(peer=peer)
        response: Response
        try:
            request = messages.request(message)
            op, facts["who"] = request.op, request.who
            self._state.sightings.note(message, request.who)
            rekey.check_environment(request.environment, self._state.config.broker)
            response = await self._bounded(request, message, start, facts, carried or Carried())
        except errors.EnvelopeError as error:
            response = error
        response = self._recorded(op, response, facts)
        self._state.metrics.seconds.observe(self._state.clock() - start, op)
        if isinstance(response, errors.EnvelopeError):
            self._state.metrics.requests.add(op, response.code)
            return wire.failure(response)
        self._state.metrics.requests.add(op, "ok")
        return {"v": wire.PROTOCOL, "ok": True, **response}

    async def _bounded(
        self, request: Request, message: wire.Message, start: float, facts: Facts, carried: Carried
    ) -> wire.Message:
        """Within the number of requests and the time that are allowed; nothing but EnvelopeErrors comes out."""
        if self.waiting >= self._state.config.broker.max_requests:
            raise errors.Overloaded()
        seconds = min(request.deadline_ms, self._state.config.broker.deadline_ms) / 1000
        self.waiting += 1
        try:
            async with asyncio.timeout(seconds):
                return await HANDLERS[request.op](self._state, AskedRequest(message, start + seconds, facts, carried))
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
        self._state.audit.write("request", **facts)
