"""One request to the broker and its response, over the Unix socket, without ever blocking a cancel."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from pg_envelope import errors, wire
from pg_envelope.backend.epoch import START_HINT
from pg_envelope.backend.location import Location

# A blocking call in Python would hold up statement_timeout and cancel; so wait in slices and look in between.
SLICE_SECONDS = 0.05
DEADLINE_SECONDS = 10.0
PEER = struct.Struct("3i")

Result = TypeVar("Result")


class Link:
    """Asks the broker. `interrupts` is called between slices of waiting and may raise to end the statement."""

    def __init__(self, location: Location, interrupts: Callable[[], None], deadline: float = DEADLINE_SECONDS) -> None:
        self._location = location
        self._interrupts = interrupts
        self._deadline = deadline

    def ask(self, op: str, who: wire.Who, **arguments: object) -> wire.Message:
        """The response of an operation that went well; raises what the broker answered, or Unavailable."""
        request = {"v": wire.PROTOCOL, "op": op, "deadline_ms": int(self._deadline * 1000), "who": who, **arguments}
        until = time.monotonic() + self._deadline
        with self._connect() as connection:
            self._send(connection, wire.frame(request), until)
            prefix = self._receive(connection, wire.LENGTH_BYTES, until)
            response = wire.parse(self._receive(connection, wire.body_length(prefix), until))
        if response.get("ok") is not True:
            raise wire.error_from(response.get("error") or {})
        return response

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection.settimeout(SLICE_SECONDS)
        try:
            connection.connect(self._location.socket)
            self._check_peer(connection)
        except OSError:
            connection.close()
            raise errors.Unavailable("the key broker is not running", hint=START_HINT) from None
        except errors.EnvelopeError:
            connection.close()
            raise
        return connection

    def _check_peer(self, connection: socket.socket) -> None:
        _, uid, _ = PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))
        if uid not in self._location.broker_uids:
            raise errors.NotConfigured(
                "the broker's socket belongs to a user that may not be the broker",
                detail=f"user id {uid}",
                hint="Set broker_uid in /etc/pg_envelope/backend.conf, or PG_ENVELOPE_BROKER_UID for the postmaster.",
            )

    def _send(self, connection: socket.socket, data: bytes, until: float) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._patiently(partial(connection.send, rest), until) :]

    def _receive(self, connection: socket.socket, count: int, until: float) -> bytes:
        received = bytearray()
        while len(received) < count:
            chunk = self._patiently(partial(connection.recv, count - len(received)), until)
            if not chunk:
                raise errors.Unavailable("the key broker closed the connection")
            received += chunk
        return bytes(received)

    def _patiently(self, call: Callable[[], Result], until: float) -> Result:
        """Repeats a call that times out each slice, until it answers or the deadline has passed."""
        while True:
            try:
                return call()
            except TimeoutError:
                self._interrupts()
            except OSError:
                raise errors.Unavailable("the connection to the key broker broke") from None
            if time.monotonic() > until:
                raise errors.Deadline
