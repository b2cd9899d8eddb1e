"""Serves the door for applications: TLS, who may come in, and the way of a request to the service."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections import Counter
from functools import partial

from pg_envelope import errors, wire
from pg_envelope.broker.door import tls
from pg_envelope.broker.door.applications import Application, Applications, expires, facts
from pg_envelope.broker.requests.asked import Facts
from pg_envelope.broker.requests.conversation import Conversation, send
from pg_envelope.broker.requests.peers import Peers
from pg_envelope.broker.requests.service import Service
from pg_envelope.broker.settings.config import Config
from pg_envelope.broker.settings.door import DoorSettings
from pg_envelope.broker.settings.wants import address
from pg_envelope.broker.system import clock
from pg_envelope.broker.watch.metrics import Metrics

log = logging.getLogger(__name__)

BACKLOG = 128
HANDSHAKE_SECONDS = 5.0
# Strangers who have not shown a certificate yet may hold so many connections.
HANDSHAKES = 64
# Of one address. The others are for other addresses.
HANDSHAKES_OF_ONE = 16
# A connection ends after an hour at most, so that a certificate that is not renewed comes to an end, too.
MOST_SECONDS = 3600.0
PAUSE_SECONDS = 0.1


class Door:
    """Accepts connections until it is closed. Nothing is read from a peer without a certificate that is known."""

    def __init__(self, config: Config, settings: DoorSettings, service: Service, metrics: Metrics) -> None:
        """Listens. Raises NotConfigured."""
        self._settings, self._service, self._metrics = settings, service, metrics
        self._applications = Applications(settings, config.application, clock.now)
        self._context = tls.context(settings)
        self.peers = Peers(settings.max_connections)
        self._conversation = Conversation(self.peers, metrics)
        self._handshakes = asyncio.Semaphore(HANDSHAKES)
        self._shaking: Counter[str] = Counter()
        self._connections: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._socket = listen(settings)

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._handshakes.acquire()
            try:
                connection, peer = await loop.sock_accept(self._socket)
            except OSError as error:
                log.error("door: %s", error.strerror)
                self._handshakes.release()
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            task = asyncio.create_task(self._guarded(connection, peer[0]))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def close(self) -> None:
        self._socket.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _guarded(self, connection: socket.socket, peer: str) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._admit(connection, peer)
        except errors.EnvelopeError as error:
            log.error("door: %s", error.said)

    async def _admit(self, connection: socket.socket, peer: str) -> None:
        self._shaking[peer] += 1
        try:
            reader, writer = await self._shaken(connection, peer)
        except OSError as error:
            self._refused(peer, {"reason": _reason(error)})
            raise
        finally:
            self._shaking[peer] -= 1
            self._shaking += Counter()
            self._handshakes.release()
        try:
            await self._welcome(reader, writer, peer)
        finally:
            writer.transport.abort()

    async def _shaken(self, connection: socket.socket, peer: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Returns the connection's two ends after the TLS handshake. Raises OSError."""
        if self._shaking[peer] > HANDSHAKES_OF_ONE:
            connection.close()
            raise ConnectionRefusedError
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, connection, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
        except BaseException:
            connection.close()
            raise
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str) -> None:
        certificate = writer.get_extra_info("peercert")
        about = facts(certificate, peer)
        try:
            application = self._applications.of(certificate)
            with self.peers.connected(application.name):
                answer = partial(self._answer, application=application, about=about)
                async with asyncio.timeout(min(MOST_SECONDS, expires(certificate) - time.time())):
                    await self._conversation.hold(reader, writer, application.name, answer)
        except (errors.NotPermitted, errors.Overloaded) as refusal:
            self._refused(peer, {**about, "error": refusal.code})
            await send(writer, wire.failure(refusal))

    async def _answer(self, message: wire.Message, application: Application, about: Facts) -> wire.Message:
        """Answers a request that the application may ask. A refused one goes to the audit log, too."""
        if self._waiting >= self._settings.max_requests:
            return wire.failure(errors.Overloaded())
        self._waiting += 1
        try:
            checked = application.check(message, about["address"])
            return await self._service.answer(checked, {**about, "application": application.name})
        except errors.EnvelopeError as refusal:
            self._refused(about["address"], {**about, "application": application.name, "error": refusal.code})
            return wire.failure(refusal)
        finally:
            self._waiting -= 1

    def _refused(self, peer: str, why: Facts) -> None:
        self._metrics.refused.add()
        self._service.repeats.write("application_refused", **{**why, "address": peer})


def _reason(error: OSError) -> str:
    """Returns OpenSSL's name for a failed handshake, such as CERTIFICATE_VERIFY_FAILED. No peer chooses it."""
    return str(getattr(error, "reason", None) or type(error).__name__) if isinstance(error, ssl.SSLError) else "closed"


def listen(settings: DoorSettings) -> socket.socket:
    """Returns the listening socket. Raises NotConfigured."""
    host, port = address(settings.listen, "door.listen")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise errors.NotConfigured(f"the door cannot listen on {settings.listen}", detail=error.strerror) from None
    found.setblocking(False)
    return found
