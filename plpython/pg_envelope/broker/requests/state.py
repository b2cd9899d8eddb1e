"""Holds the parts of the broker that requests share, and the rules for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from pg_envelope import errors
from pg_envelope.broker.keys.deks import OpenDeks
from pg_envelope.broker.keys.epoch import EpochFile
from pg_envelope.broker.kms.kms import Kms
from pg_envelope.broker.ledger.erasures import Erasures
from pg_envelope.broker.ledger.limits import ReadLimits
from pg_envelope.broker.ledger.recorder import ReadRecorder
from pg_envelope.broker.requests.asked import Facts
from pg_envelope.broker.requests.keys_backup import BackupReturner, BackupSealer
from pg_envelope.broker.requests.objects import DekIdentity
from pg_envelope.broker.requests.sightings import Sightings
from pg_envelope.broker.requests.users import KekUsers
from pg_envelope.broker.settings.config import Config
from pg_envelope.broker.watch.audit import Audit
from pg_envelope.broker.watch.metrics import Metrics

SHOWN = 10


class LedgerCheck:
    """Reads the whole ledger of erasures and checks its chain and signatures."""

    def __init__(self, erasures: Erasures) -> None:
        self._erasures = erasures
        self._running: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Runs one check at a time. It goes on after the request's deadline, and a later request finds its result."""
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(asyncio.to_thread(self._erasures.verify))
        await asyncio.shield(self._running)


@dataclass(frozen=True)
class State:
    """Shared by all requests. `clock` gives seconds, and counts the time that the machine sleeps."""

    config: Config
    kms: Mapping[str, Kms]
    deks: OpenDeks
    epoch: EpochFile
    erasures: Erasures
    audit: Audit
    metrics: Metrics
    clock: Callable[[], float]
    users: KekUsers
    sightings: Sightings
    sealer: BackupSealer
    returner: BackupReturner
    ledger_check: LedgerCheck
    reads: ReadRecorder
    limits: ReadLimits

    def dead(self, database: UUID, dek: DekIdentity) -> bool:
        return self.erasures.dead(database, dek.dek_id, dek.fingerprint)

    def refuse_dead(self, database: UUID, deks: Sequence[DekIdentity]) -> None:
        """Raises KeyDestroyed when a DEK was erased that the catalog still has: it was restored."""
        dead = [str(dek.dek_id) for dek in deks if self.dead(database, dek)]
        if dead:
            raise errors.KeyDestroyed(detail=f"DEK {', '.join(dead[:SHOWN])}", hint="SELECT envelope.replay_erasures()")

    def flush(self, facts: Facts) -> int:
        """Bumps the epoch and empties the cache, with nothing in between that could hand out an old key."""
        value = self.epoch.bump()
        facts.update(epoch=value, count=self.deks.drop_all())
        return value
