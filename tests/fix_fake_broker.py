"""Brokers that do not behave: a Unix socket whose other end does what a test says."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pg_envelope import wire

Behaviour = Callable[[socket.socket], None]


class FakeBroker:
    """Listens on `path` as user `uid`, and lets `behaviour` have each connection in a thread of its own."""

    def __init__(self, path: Path, behaviour: Behaviour, *, uid: int | None = None, backlog: int = 16) -> None:
        self.ending = threading.Event()
        self.asked = threading.Event()
        self._behaviour = behaviour
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        path.chmod(0o666)
        with _effective(uid):
            self._listener.listen(backlog)
        self._path = path
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> FakeBroker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self._path.unlink()

    def _serve(self) -> None:
        with contextlib.ExitStack() as threads:
            while not self.ending.is_set():
                try:
                    connection, _ = self._listener.accept()
                except OSError:
                    return
                thread = threading.Thread(target=self._have, args=(connection,))
                threads.callback(thread.join)
                thread.start()

    def _have(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self._behaviour(connection)

    def hang(self, connection: socket.socket) -> None:
        """Reads what comes, and says nothing until the end."""
        connection.recv(1)
        self.asked.set()
        self.ending.wait()


@contextlib.contextmanager
def _effective(uid: int | None) -> Iterator[None]:
    """SO_PEERCRED tells a client who called listen()."""
    ours = os.geteuid()
    if uid is not None:
        os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(ours)


def hanging(path: Path, *, uid: int | None = None) -> FakeBroker:
    """One that takes requests and never answers."""
    fake = FakeBroker(path, lambda connection: fake.hang(connection), uid=uid)
    return fake


def request(connection: socket.socket) -> wire.Message:
    """The request on a connection."""
    return wire.parse(_exactly(connection, wire.body_length(_exactly(connection, wire.LENGTH_BYTES))))


def _exactly(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        received += connection.recv(count - len(received)) or _closed()
    return received


def _closed() -> bytes:
    raise ConnectionError


def saying(answer: bytes) -> Behaviour:
    """Reads a request, then sends these bytes and closes."""

    def behave(connection: socket.socket) -> None:
        request(connection)
        connection.sendall(answer)

    return behave


def answering(**fields: Any) -> Behaviour:
    """Reads a request, then answers with a well-formed frame of these fields."""
    return saying(wire.frame({"v": wire.PROTOCOL, "ok": True, **fields}))
