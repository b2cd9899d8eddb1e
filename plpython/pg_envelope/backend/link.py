"""Sends one request to the broker over the Unix socket and reads the response, without ever blocking a cancel."""

from __future__ import annotations

# The public module makes enumerations of all its constants, which takes a tenth of a new connection's imports.
import _socket as socket
import struct
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial

from pg_envelope import errors, responses, wire
from pg_envelope.backend.epoch import START_HINT
from pg_envelope.backend.location import Location
from pg_envelope.responses import not_understood as not_understood
from pg_envelope.typed import TypeVar

# A blocking call in Python would hold up statement_timeout and cancel. So the code waits in slices and looks in
# between.
SLICE_SECONDS = 0.05
DEADLINE_SECONDS = 10.0
PEER = struct.Struct("3i")
DESCRIPTOR = struct.Struct("i")
STREAM = socket.SOCK_STREAM | socket.SOCK_CLOEXEC

Result = TypeVar("Result")


class Patience:
    """The time that one request may take. `interrupts` is called after each slice of it and may raise."""

    def __init__(self, interrupts: Callable[[], None], seconds: float) -> None:
        now = time.monotonic()
        self._interrupts = interrupts
        self._look = now + SLICE_SECONDS
        self._until = now + seconds

    def get(self, call: Callable[[], Result]) -> Result:
        """Repeats a call that cannot go on yet until it can; raises Deadline when the time is over.

        The clock is read before each call, also after one that did something: a peer may send a byte now and then.
        """
        while True:
            self._pass()
            try:
                return call()
            except TimeoutError:
                pass
            except BlockingIOError:
                time.sleep(SLICE_SECONDS)

    def _pass(self) -> None:
        now = time.monotonic()
        if now >= self._look:
            self._interrupts()
            self._look = now + SLICE_SECONDS
        if now > self._until:
            raise errors.Deadline


class Link:
    """Asks the broker. `interrupts` is called between slices of waiting, and may raise to end the statement.

    `who` tells who asks, for the broker's audit log.
    """

    def __init__(
        self,
        location: Location,
        interrupts: Callable[[], None],
        who: Callable[[], wire.Who],
        deadline: float = DEADLINE_SECONDS,
    ) -> None:
        self.who = who
        self._location = location
        self._interrupts = interrupts
        self._deadline = deadline

    def ask(self, op: str, **arguments: object) -> wire.Message:
        """Returns the response of an operation that went well, with the members that `responses` declares for it.

        Raises the broker's error, or Unavailable.
        """
        frame = wire.frame(self._request(op, arguments))
        patience = Patience(self._interrupts, self._deadline)
        with closing(socket.socket(socket.AF_UNIX, STREAM)) as connection:
            connection.settimeout(SLICE_SECONDS)
            self._connect(connection, patience)
            try:
                body = _exchange(connection, frame, patience)
            except OSError:
                raise errors.Unavailable("the connection to the key broker broke") from None
        return responses.read(op, body)

    def attach(self, descriptor: int, ring: str) -> tuple[Line, wire.Message]:
        """Opens a connection that stays, and brings a ring to the broker. Raises what `ask` raises."""
        line = Line(self._interrupts, self._deadline)
        try:
            self._connect(line.connection, line.patience())
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, DESCRIPTOR.pack(descriptor))]
            return line, line.ask("attach", wire.frame(self._request("attach", {"ring": ring})), rights)
        except BaseException:
            line.close()
            raise

    def ask_on(self, line: Line, op: str, **arguments: object) -> wire.Message:
        """Does what `ask` does, on a line. When it raises, the line is of no more use."""
        return line.ask(op, wire.frame(self._request(op, arguments)))

    def tell(self, op: str, **arguments: object) -> None:
        """Sends a message that needs no answer. Raises rather than waits."""
        frame = wire.frame(self._request(op, arguments))
        with closing(socket.socket(socket.AF_UNIX, STREAM | socket.SOCK_NONBLOCK)) as connection:
            connection.connect(self._location.socket)
            self._check(connection)
            connection.send(frame)

    def _request(self, op: str, arguments: dict[str, object]) -> wire.Message:
        deadline_ms = int(self._deadline * 1000)
        return {"v": wire.PROTOCOL, "op": op, "deadline_ms": deadline_ms, "who": self.who(), **arguments}

    def _connect(self, connection: socket.socket, patience: Patience) -> None:
        try:
            patience.get(partial(connection.connect, self._location.socket))
            self._check(connection)
        except OSError:
            raise errors.Unavailable("the key broker is not running", hint=START_HINT) from None

    def _check(self, connection: socket.socket) -> None:
        """Checks, before a byte is sent, that a user listens who may be the broker. Raises NotConfigured."""
        _, uid, _ = PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))
        if uid not in self._location.broker_uids:
            raise errors.NotConfigured(
                "the broker's socket belongs to a user that may not be the broker",
                detail=f"user id {uid}",
                hint="Set broker_uid in /etc/pg_envelope/backend.conf, or PG_ENVELOPE_BROKER_UID for the postmaster.",
            )


class Line:
    """A connection to the broker that stays open. Its end tells each side that the other one is gone."""

    def __init__(self, interrupts: Callable[[], None], deadline: float) -> None:
        from select import POLLIN, poll  # not for a session that reads no audited column

        self.connection = socket.socket(socket.AF_UNIX, STREAM)
        self.connection.settimeout(SLICE_SECONDS)
        self._events = poll()
        self._events.register(self.connection, POLLIN)
        self.patience = partial(Patience, interrupts, deadline)

    @property
    def is_open(self) -> bool:
        """Tells whether the broker is there. Between answers it sends nothing."""
        return not self._events.poll(0)

    def ask(self, op: str, frame: bytes, rights: list[tuple[int, int, bytes]] | None = None) -> wire.Message:
        """Returns the response. `rights` go with the first bytes of the frame. Raises what Link.ask raises."""
        patience = self.patience()
        try:
            sent = patience.get(partial(self.connection.sendmsg, [frame], rights or []))
            body = _exchange(self.connection, frame[sent:], patience)
        except OSError:
            raise errors.Unavailable("the connection to the key broker broke") from None
        return responses.read(op, body)

    def close(self) -> None:
        self.connection.close()


def _exchange(connection: socket.socket, frame: bytes, patience: Patience) -> bytes:
    """Sends a frame. Returns the body of the frame that comes back."""
    rest = memoryview(frame)
    # A broker that refuses a connection says why, and reads nothing.
    with suppress(BrokenPipeError):
        while rest:
            rest = rest[patience.get(partial(connection.send, rest)) :]
    prefix = _receive(connection, wire.LENGTH_BYTES, patience)
    try:
        length = wire.body_length(prefix)
    except errors.BadInput:
        raise not_understood() from None
    return _receive(connection, length, patience)


def _receive(connection: socket.socket, count: int, patience: Patience) -> bytes:
    received = bytearray()
    while len(received) < count:
        chunk = patience.get(partial(connection.recv, count - len(received)))
        if not chunk:
            raise errors.Unavailable("the key broker closed the connection")
        received += chunk
    return bytes(received)
