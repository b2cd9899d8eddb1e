"""Runs the ledger of reads beside the broker's other work: in threads, one act at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from pg_envelope import errors
from pg_envelope.broker.ledger.anchors import Keep
from pg_envelope.broker.ledger.read_ledger import WHAT, ReadLedger
from pg_envelope.broker.ledger.rings import Rings, SessionRing
from pg_envelope.broker.ledger.tally import Tally
from pg_envelope.broker.settings.config import BrokerSettings

log = logging.getLogger(__name__)

# A session at full speed fills its ring in 0.03 s, and would then have to wait. A broker without work sleeps longer.
DRAIN_SECONDS, BUSY_SECONDS = 0.05, 0.01
Result = TypeVar("Result")


class ReadRecorder:
    """A ledger that cannot be used stops the reads of audited columns, and nothing else: `trouble` says why.

    A checkpoint that cannot be made stops nothing: `unsigned` says why.
    """

    def __init__(self, settings: BrokerSettings, tally: Tally, kv: Keep | None = None) -> None:
        """`tally` hears of each line. `kv` takes checkpoints, if the anchor is a KV."""
        self._settings, self._tally, self._kv = settings, tally, kv
        self._lock = asyncio.Lock()
        self._rings: Rings | None = None
        self.trouble: errors.EnvelopeError | None = None
        self.unsigned: errors.EnvelopeError | None = None
        self._began_at = time.time()
        self.statement_key = b""

    def _open(self) -> Rings:
        """Opens the ledger, once: a long one takes a while, in which the broker serves other requests. Raises
        NotConfigured.
        """
        if self._rings is None:
            if self.trouble is not None:
                raise self.trouble
            settings = self._settings
            found = ReadLedger(settings.reads_path, settings.environment, settings.reads_anchor, self._kv)
            self.statement_key = found.statement_key
            self._rings = Rings(found, self._tally.note)
        return self._rings

    @property
    def sessions(self) -> int:
        """The number of sessions that have read audited columns, and are there yet."""
        return self._rings.count if self._rings else 0

    @property
    def signed_at(self) -> float | None:
        """When the last checkpoint was made, in seconds since 1970. None before the first."""
        return self._rings.signed_at if self._rings else None

    @property
    def signed_or_began_at(self) -> float:
        """The same, or before the first when the broker began: so an alert sees that there is none for long."""
        return self._began_at if self.signed_at is None else self.signed_at

    async def attach(self, descriptor: int, ring: str, who: dict[str, Any], pid: int) -> SessionRing:
        """Raises BadInput, or what is wrong with the ledger."""
        return await self._do(lambda: self._open().attach(descriptor, ring, who, pid))

    async def drain(self, found: SessionRing, seq: int) -> None:
        """Returns once the events of a ring up to number `seq` are on the disk.

        Raises BadInput, or what is wrong with the ledger.
        """
        await self._do(lambda: self._open().drain(found, seq))

    async def tell(self, name: str, **facts: object) -> None:
        """Adds an entry of the broker's own. Raises what is wrong with the ledger."""
        await self._do(lambda: self._open().tell(name, **facts))

    async def detach(self, found: SessionRing) -> None:
        """Takes the last events of a session. What cannot be written now is tried again."""
        await self._tried(lambda: self._open().detach(found))

    async def run(self) -> None:
        """Empties the rings again and again, and signs checkpoints, until it is cancelled."""
        while True:
            await self._tried(self._pass)
            is_busy = self._rings is not None and self._rings.is_busy
            await asyncio.sleep(BUSY_SECONDS if is_busy else DRAIN_SECONDS)

    async def close(self) -> None:
        if self._rings is not None:
            await self._tried(self._rings.close)

    def _pass(self) -> None:
        rings = self._open()
        rings.drain()
        self._recovered()
        if rings.is_checkpoint_due():
            self._sign(rings)

    def _sign(self, rings: Rings) -> None:
        try:
            rings.checkpoint()
        except errors.EnvelopeError as error:
            if self.unsigned is None or self.unsigned.said != error.said:
                log.error("the %s is not signed: %s", WHAT, error.said)
            self.unsigned = error
            return
        if self.unsigned is not None:
            log.info("the %s can be signed again", WHAT)
        self.unsigned = None

    async def _tried(self, act: Callable[[], None]) -> None:
        try:
            await self._do(act)
        except errors.EnvelopeError as error:
            self._failed(error)

    async def _do(self, act: Callable[[], Result]) -> Result:
        """Shields the act: a deadline or the end of a connection must not leave it half done."""
        return await asyncio.shield(asyncio.ensure_future(self._alone(act)))

    async def _alone(self, act: Callable[[], Result]) -> Result:
        async with self._lock:
            return await asyncio.to_thread(act)

    def _failed(self, error: errors.EnvelopeError) -> None:
        if self.trouble is None or self.trouble.said != error.said:
            log.error("the %s: %s", WHAT, error.said)
        self.trouble = error

    def _recovered(self) -> None:
        if self.trouble is not None:
            log.info("the %s can be written again", WHAT)
        self.trouble = None
