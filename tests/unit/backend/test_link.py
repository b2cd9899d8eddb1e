"""The link to the broker, against real Unix sockets whose other end misbehaves."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pg_envelope import errors, wire
from pg_envelope.backend.link import Link
from pg_envelope.backend.location import Location
from tests.fix_fake_broker import Behaviour, FakeBroker, answering, hanging, request, saying

WHO: wire.Who = {"database": "d", "role": "r", "acting": "r", "client": None, "application": "", "pid": 1}

STATUS: dict[str, Any] = {
    "version": "1",
    "protocol": 1,
    "environment": "default",
    "epoch": 7,
    "audit": None,
    "keks": {},
}


def who() -> wire.Who:
    return WHO


class Cancelled(Exception):
    """What PostgreSQL raises in the middle of a statement."""


def never() -> None:
    """No interrupt is pending."""


def cancel() -> None:
    raise Cancelled


def ask(path: Path, interrupts: Callable[[], None] = never, deadline: float = 60.0) -> wire.Message:
    return Link(Location(str(path), frozenset({os.geteuid()})), interrupts, who, deadline).ask("status")


def told(path: Path, behaviour: Behaviour) -> errors.EnvelopeError:
    with FakeBroker(path, behaviour), pytest.raises(errors.EnvelopeError) as raised:
        ask(path)
    return raised.value


def dripping(connection: socket.socket) -> None:
    """One byte at a time, each long before a slice of waiting is over, for ever."""
    request(connection)
    connection.sendall((1 << 20).to_bytes(4, "big"))
    while True:
        connection.sendall(b" ")
        time.sleep(0.005)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


def test_an_answer_comes_back(path: Path) -> None:
    with FakeBroker(path, answering(**STATUS)):
        assert ask(path)["epoch"] == 7


@pytest.mark.parametrize("name", ["version", "epoch", "keks"])
def test_an_answer_that_lacks_a_member(path: Path, name: str) -> None:
    fields = {one: value for one, value in STATUS.items() if one != name}
    error = told(path, answering(**fields))
    assert type(error) is errors.Unavailable
    assert "does not speak" in error.message


def test_no_broker(path: Path) -> None:
    with pytest.raises(errors.Unavailable, match="not running"):
        ask(path)


def test_a_file_in_place_of_the_socket(path: Path) -> None:
    path.touch()
    with pytest.raises(errors.Unavailable, match="not running"):
        ask(path)


def test_a_broker_of_another_user_is_refused_before_anything_is_sent(path: Path) -> None:
    received: list[bytes] = []
    with (
        FakeBroker(path, lambda connection: received.append(connection.recv(1))),
        pytest.raises(errors.NotConfigured, match="user that may not be the broker"),
    ):
        Link(Location(str(path), frozenset({os.geteuid() + 1})), never, who).ask("status")
    assert received == [b""]


def test_a_broker_that_closes(path: Path) -> None:
    assert "closed the connection" in told(path, saying(b"")).message


def test_a_broker_that_closes_in_the_middle_of_a_frame(path: Path) -> None:
    assert "closed the connection" in told(path, saying(b"\0\0\1\0{")).message


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"\xff\xff\xff\xff",
        b"\0\0\0\2[]",
        b"\0\0\0\4nope",
        b"\0\0\0\0",
        b"\0\0\0\x0c" + b'{"ok": true}',
        wire.frame({"v": 2, "ok": True}),
    ],
)
def test_an_answer_that_is_none(path: Path, answer: bytes) -> None:
    error = told(path, saying(answer))
    assert type(error) is errors.Unavailable
    assert "does not speak" in error.message


@pytest.mark.parametrize("error", [None, "text", [], {"code": []}, {"code": "internal", "message": 5, "detail": {}}])
def test_an_error_of_another_shape(path: Path, error: object) -> None:
    assert type(told(path, saying(wire.frame({"v": 1, "ok": False, "error": error})))) is errors.Internal


def test_an_error_is_the_brokers(path: Path) -> None:
    error = told(path, saying(wire.frame(wire.failure(errors.KmsSealed(detail="since noon")))))
    assert (type(error), error.detail) == (errors.KmsSealed, "since noon")


def test_a_cancel_ends_the_wait_for_a_broker_that_hangs(path: Path) -> None:
    with hanging(path), pytest.raises(Cancelled):
        ask(path, cancel)


def test_a_cancel_ends_the_wait_for_a_broker_that_drips(path: Path) -> None:
    with FakeBroker(path, dripping), pytest.raises(Cancelled):
        ask(path, cancel)


@pytest.mark.parametrize("fake", [lambda path: FakeBroker(path, dripping), hanging], ids=["drips", "hangs"])
def test_the_deadline_holds(path: Path, fake: Callable[[Path], FakeBroker]) -> None:
    with fake(path), pytest.raises(errors.Deadline):
        ask(path, deadline=0.2)


def test_a_broker_that_accepts_no_more_is_waited_for(path: Path) -> None:
    """A full queue of connections makes connect() fail at once: that is no broker that is down."""
    listener = socket.socket(socket.AF_UNIX)
    waiting = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    listener.bind(str(path))
    listener.listen(0)
    try:
        for other in waiting:
            other.setblocking(False)
            other.connect_ex(str(path))
        with pytest.raises(errors.Deadline):
            ask(path, deadline=0.2)
        with pytest.raises(Cancelled):
            ask(path, cancel)
    finally:
        for opened in (listener, *waiting):
            opened.close()


def test_a_broker_that_says_why_and_reads_nothing(path: Path) -> None:
    """The refusal counts, also when there is no writing any more."""
    refusal = wire.frame(wire.failure(errors.Overloaded()))

    def refuse(connection: socket.socket) -> None:
        connection.sendall(refusal)
        connection.shutdown(socket.SHUT_RDWR)

    assert isinstance(told(path, refuse), errors.Overloaded)
