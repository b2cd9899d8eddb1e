"""The daemon: puts the parts together, runs until a signal, and takes them apart in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pg_envelope import errors
from pg_envelope._version import VERSION
from pg_envelope.broker.door.door import Door
from pg_envelope.broker.keys.cache import Cache
from pg_envelope.broker.keys.deks import Limits, OpenDeks
from pg_envelope.broker.keys.epoch import EpochFile
from pg_envelope.broker.kms.kms import THREADS, Kms
from pg_envelope.broker.kms.providers.make import make_provider
from pg_envelope.broker.ledger import kv_anchor
from pg_envelope.broker.ledger.anchors import Keep
from pg_envelope.broker.ledger.erasures import Erasures
from pg_envelope.broker.ledger.recorder import ReadRecorder
from pg_envelope.broker.ledger.tally import Tally
from pg_envelope.broker.prepare import require
from pg_envelope.broker.requests import status
from pg_envelope.broker.requests.peers import Peers
from pg_envelope.broker.requests.service import Service
from pg_envelope.broker.server import Server
from pg_envelope.broker.settings.config import Config, load
from pg_envelope.broker.settings.kms import KmsSettings
from pg_envelope.broker.startup import check_secrets
from pg_envelope.broker.system import clock, hardening
from pg_envelope.broker.watch import http
from pg_envelope.broker.watch.audit import Audit
from pg_envelope.broker.watch.metrics import Labels, Metrics

log = logging.getLogger(__name__)

EXIT_REFUSED = 2
# The time that requests to a KMS get to end, when the broker stops.
STOP_SECONDS = 2.0


def run(config: Path) -> int:
    """Runs until SIGTERM or SIGINT. Returns 0, or 2 when it refuses to start and says why on standard error."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="pg_envelope broker: %(levelname)s: %(message)s")
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    hardening.harden()
    try:
        settings = load(config)
        require(settings.broker)
        check_secrets(settings)
        asyncio.run(_run(settings))
        _leave_hanging_threads()
    except errors.EnvelopeError as error:
        log.error("%s", "; ".join(text for text in (error.message, error.detail, error.hint) if text))
        return EXIT_REFUSED
    return 0


def _leave_hanging_threads() -> None:
    """Ends the process in spite of threads that wait in an HSM's module, or for DNS: they have no socket to close."""
    end = time.monotonic() + STOP_SECONDS
    threads = [thread for thread in threading.enumerate() if thread.name.startswith(THREADS)]
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        log.warning("stopped while a request to a KMS hangs")
        os._exit(0)


class BrokerProcess:
    """Holds all parts of a running broker."""

    def __init__(self, config: Config, audit: Audit, erasures: Erasures) -> None:
        self.config, self.audit, self.erasures, self.metrics = config, audit, erasures, Metrics()
        self.kms = {name: self._kms(name, settings) for name, settings in config.kms.items()}
        self.cache = Cache(config.cache, clock.now, self.metrics)
        limits = Limits(config.broker.environment, config.broker.deadline_ms / 1000)
        self.deks = OpenDeks(limits, config.kek, self.kms, self.cache, audit, self.metrics, clock.now)
        self.epoch = EpochFile(config.broker.epoch)
        self.reads = ReadRecorder(config.broker, Tally(self.metrics.reads, self.metrics.values), self._kv_anchor())
        parts = (config, self.kms, self.deks, self.epoch, audit, self.metrics, clock.now, erasures, self.reads)
        self.service = Service(*parts)
        self._register_gauges()

    def _kms(self, name: str, settings: KmsSettings) -> Kms:
        def report(error: errors.EnvelopeError) -> None:
            log.error("kms %s: %s", name, "; ".join(filter(None, (error.message, error.detail, error.hint))))
            self.audit.write("login_failed", kms=name, error=error.code, detail=error.detail)

        provider = make_provider(settings, report)
        return Kms(name, provider, settings.timeout_ms / 1000, self.metrics, clock.now)

    def _kv_anchor(self) -> Keep | None:
        name = self.config.broker.anchor_kms
        return kv_anchor.keeping(self.kms[name], self.config.broker.environment) if name else None

    async def serve(self) -> None:
        """Serves until it is cancelled."""
        web = await self._web()
        # Who waits for the socket finds the door open, too.
        door = self._door()
        server = Server(self.config.broker, self.service, self.metrics)
        self._register_connections(server, door)
        self.audit.write("started", environment=self.config.broker.environment, epoch=self.epoch.value)
        if self.erasures.cut:
            self.audit.write("ledger_recovered", bytes=self.erasures.cut, **self.erasures.proof._asdict())
            log.warning("the ledger of erasures ended in a line that was never acknowledged; it was cut off")
        log.info("listening on %s", self.config.broker.socket)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(server.serve())
                if door is not None:
                    tasks.create_task(door.serve())
                for name in self.kms:
                    tasks.create_task(self._probe(name))
                tasks.create_task(self._sweep())
                tasks.create_task(self.reads.run())
        finally:
            if web is not None:
                web.close()
            await server.close()
            if door is not None:
                await door.close()
            await self.reads.close()
            await self._close()

    async def _web(self) -> asyncio.Server | None:
        pages: http.Pages = {"/metrics": self.metrics.render, "/healthz": self._health}
        return await http.start(self.config.broker.metrics, pages) if self.config.broker.metrics else None

    def _door(self) -> Door | None:
        settings = self.config.door
        if settings is None:
            return None
        door = Door(self.config, settings, self.service, self.metrics)
        log.info("listening on %s for applications", settings.listen)
        return door

    async def _close(self) -> None:
        await self.deks.close()
        for kms in self.kms.values():
            kms.close()
        self.epoch.close()
        _logged(self.service.repeats.tell_all)
        self.audit.write("stopped")

    async def _probe(self, name: str) -> None:
        """Asks for each KEK of a KMS again and again. `status` and the metrics tell what it found."""
        said: dict[str, str | None] = {}
        kms = self.kms[name]
        while True:
            for kek in sorted(self.deks.keks_of(kms)):
                problem = await self._probe_one(kms, self.config.kek[kek].key)
                if problem != said.get(kek, ""):
                    said[kek] = problem
                    log.log(logging.ERROR if problem else logging.INFO, "kek %s: %s", kek, problem or "ok")
            await asyncio.sleep(self.config.broker.probe_seconds)

    async def _probe_one(self, kms: Kms, key: str) -> str | None:
        try:
            await kms.probe(key, clock.now() + self.config.broker.deadline_ms / 1000)
        except errors.EnvelopeError as error:
            return error.said
        except Exception as error:
            return f"internal error ({type(error).__name__})"
        return None

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self.config.broker.probe_seconds)
            for work in (self.audit.recover, self.service.repeats.sweep, self.deks.grace_expired, self.cache.sweep):
                _logged(work)

    def _health(self) -> str:
        """Answers with status 200 always: a restart because the KMS is down would throw the broker's cache away."""
        states = {
            name: status.state_of(self.deks, self.kms[kek.kms], name, kek.key)[0]
            for name, kek in self.config.kek.items()
        }
        return "".join(f"kek {name} {state}\n" for name, state in states.items())

    def _register_gauges(self) -> None:
        gauge = self.metrics.gauge
        gauge("pg_envelope_cache_keys", "DEKs in the cache.", lambda: {(): len(self.cache)})
        gauge("pg_envelope_ledger_up", "1 when the ledger of reads can be written.", self._ledger_up)
        gauge("pg_envelope_ledger_sessions", "Sessions with a ring.", lambda: {(): self.reads.sessions})
        text = "Time of the last checkpoint of the ledger of reads, or of the broker's start before the first one."
        gauge("pg_envelope_ledger_checkpoint_timestamp_seconds", text, self._signed_at)
        gauge("pg_envelope_epoch", "Revocation epoch.", lambda: {(): self.epoch.value})
        gauge("pg_envelope_audit_up", "1 when the audit log can be written.", self._audit_up)
        gauge("pg_envelope_build_info", "1, with the broker's version.", lambda: {(VERSION,): 1.0}, "version")
        gauge("pg_envelope_requests_waiting", "Requests under way.", lambda: {(): self.service.waiting})
        gauge("pg_envelope_kms_up", "1 when the KMS answers and no KEK of it is refused.", self._up, "kms")
        gauge("pg_envelope_kms_token_ttl_seconds", "Life left of the login's token.", self._token_seconds, "kms")
        gauge("pg_envelope_grace_remaining_seconds", "Until a down KMS's last DEK is over.", self._grace, "kms")

    def _register_connections(self, server: Server, door: Door | None) -> None:
        def read(peers: Peers) -> dict[Labels, float]:
            return {(str(peer),): float(count) for peer, count in peers.connections.items()}

        gauge = self.metrics.gauge
        gauge("pg_envelope_connections", "Connections that are open.", lambda: read(server.peers), "uid")
        text = "Connections of applications that are open."
        gauge("pg_envelope_application_connections", text, lambda: read(door.peers) if door else {}, "application")

    def _audit_up(self) -> dict[Labels, float]:
        return {(): float(self.audit.trouble is None)}

    def _signed_at(self) -> dict[Labels, float]:
        return {(): self.reads.signed_or_began_at}

    def _ledger_up(self) -> dict[Labels, float]:
        return {(): float(self.reads.trouble is None)}

    def _up(self) -> dict[Labels, float]:
        return {(name,): float(_is_up(kms)) for name, kms in self.kms.items()}

    def _token_seconds(self) -> dict[Labels, float]:
        lives = {(name,): kms.provider.token_seconds() for name, kms in self.kms.items()}
        return {labels: seconds for labels, seconds in lives.items() if seconds is not None}

    def _grace(self) -> dict[Labels, float]:
        return {
            (name,): self.cache.longest_grace(self.deks.keks_of(kms))
            for name, kms in self.kms.items()
            if kms.down is not None
        }


def _logged(work: Callable[[], object]) -> None:
    try:
        work()
    except errors.EnvelopeError as error:
        log.error("%s", error.said)


def _is_up(kms: Kms) -> bool:
    known = kms.keks.values()
    return kms.down is None and bool(known) and not any(isinstance(found, errors.EnvelopeError) for found in known)


async def _run(config: Config) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_without_text)
    audit = Audit(config.broker.audit_log)
    erasures = Erasures(config.broker.erasures)
    try:
        serving = asyncio.create_task(BrokerProcess(config, audit, erasures).serve())
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, serving.cancel)
        loop.add_signal_handler(signal.SIGHUP, _reopen, audit)
        await _until_cancelled(serving)
    finally:
        erasures.close()
        audit.close()


async def _until_cancelled(serving: asyncio.Task[None]) -> None:
    try:
        await serving
    except asyncio.CancelledError:
        log.info("stopped")


def _reopen(audit: Audit) -> None:
    _logged(audit.reopen)


def _without_text(_: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """Logs errors of the event loop without their text: asyncio would log the text, which could hold a secret."""
    log.error("%s: %s", context.get("message"), type(context.get("exception")).__name__)
