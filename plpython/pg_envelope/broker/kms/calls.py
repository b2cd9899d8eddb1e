"""Runs one call of a provider, and bounds its time and the size of its answers, whatever HTTP client it uses.

A client's own timeout counts for each read, so a server that sends a byte now and then holds a thread for ever. Python
tells an audit hook of every socket that a library connects and of every request that http.client sends. So the hook
knows the sockets of a call, and the end of the call shuts them down.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import logging
import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from pg_envelope import errors

log = logging.getLogger(__name__)

MOST_BYTES = 1 << 20
# Deflate makes at most 1,032 bytes of one, so unpacked answers stay small, too.
MOST_PACKED_BYTES = 1 << 14
PACKED = ("gzip", "deflate")

P = ParamSpec("P")
T = TypeVar("T")


class Call:
    """Runs one function in one thread; any thread may end it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: dict[int, socket.socket] = {}
        self._over = False
        self._why: errors.EnvelopeError | None = None

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns the function's result. Raises EnvelopeErrors only: an answer that is not understood is the KMS's
        fault.
        """
        _threads.call = self
        try:
            return function(*args, **kwargs)
        except errors.EnvelopeError as error:
            raise self._why or error from None
        except Exception as error:
            raise self._why or _not_understood(error) from None
        finally:
            _threads.call = None
            self._let_go()

    def end(self) -> None:
        """Shuts down the sockets that the function uses, and refuses it new ones. Does not wait."""
        with self._lock:
            self._over, self._why = True, self._why or no_answer()
            for held in self._sockets.values():
                with contextlib.suppress(OSError):
                    held.shutdown(socket.SHUT_RDWR)

    def fail(self, why: errors.EnvelopeError) -> OSError:
        """Remembers why the call failed. Returns the exception for the client library, which may hide it."""
        self._why = why
        return ConnectionAbortedError()

    def hold(self, used: socket.socket) -> None:
        """Keeps a duplicate of the socket, since libraries hand the original's descriptor on when TLS begins."""
        with self._lock:
            if self._over:
                raise TimeoutError
            if used.fileno() >= 0 and (inode := os.fstat(used.fileno()).st_ino) not in self._sockets:
                self._sockets[inode] = socket.socket(fileno=os.dup(used.fileno()))

    def _let_go(self) -> None:
        with self._lock:
            for held in self._sockets.values():
                held.close()
            self._sockets.clear()


class _Answers:
    """Makes http.client's response objects. None of them reads more than MOST_BYTES."""

    def __init__(self, make: Callable[..., http.client.HTTPResponse]) -> None:
        self._make = make

    def __call__(self, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
        response = self._make(*args, **kwargs)
        raw = _Counted(response.fp.detach())
        response.fp = io.BufferedReader(raw)
        begin = response.begin

        def begun() -> None:
            begin()
            raw.unpacks_to(response.getheader("Content-Encoding") or "identity")

        setattr(response, "begin", begun)  # noqa: B010  # http.client calls it on the object
        return response


class _Counted(io.RawIOBase):
    """Counts an answer as it comes from the socket, with header and framing."""

    def __init__(self, source: io.RawIOBase) -> None:
        super().__init__()
        self._source, self._count, self._most = source, 0, MOST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        read = self._source.readinto(buffer)
        self._count += read or 0
        self._judge()
        return read

    def close(self) -> None:
        self._source.close()
        super().close()

    def unpacks_to(self, encoding: str) -> None:
        if encoding.lower() in PACKED:
            self._most = MOST_PACKED_BYTES
        elif encoding.lower() != "identity":
            raise _failed(errors.KmsUnavailable(detail="its answer is packed in a way that was not asked for"))
        self._judge()

    def _judge(self) -> None:
        if self._count > self._most:
            raise _failed(errors.KmsUnavailable(detail="its answer is longer than any that was asked for"))


class _Threads(threading.local):
    call: Call | None = None


_threads = _Threads()


@contextmanager
def within(seconds: float) -> Iterator[Call]:
    """Runs a call for a caller without an event loop, and ends it in time."""
    call = Call()
    timer = threading.Timer(seconds, call.end)
    timer.daemon = True
    timer.start()
    try:
        yield call
    finally:
        timer.cancel()


def no_answer() -> errors.EnvelopeError:
    return errors.KmsUnavailable(detail="no answer within timeout_ms")


def _failed(why: errors.EnvelopeError) -> OSError:
    call = _threads.call
    return call.fail(why) if call is not None else ConnectionAbortedError()


def _not_understood(error: Exception) -> errors.EnvelopeError:
    # The log gets only the place of the error, because its text could hold a secret.
    place = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s while the KMS's answer was read:\n%s", type(error).__name__, place)
    return errors.KmsUnavailable(detail=f"its answer is not understood ({type(error).__name__})")


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if event not in ("socket.connect", "http.client.send"):
        return
    call = _threads.call
    if call is None:
        return
    if event == "socket.connect":
        call.hold(args[0])
    else:
        _send(call, args[0])


def _send(call: Call, connection: Any) -> None:
    """Also takes a connection that was kept from an earlier call."""
    if connection.sock is not None:
        call.hold(connection.sock)
    if not isinstance(connection.response_class, _Answers):
        connection.response_class = _Answers(connection.response_class)


sys.addaudithook(_hook)
