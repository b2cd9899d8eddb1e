"""A server whose broker is away, hangs, talks nonsense, or is somebody else's."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pg_envelope import wire
from stack.stack import Stack
from tests.fix_fake_broker import Behaviour, FakeBroker, hanging, request, saying
from tests.fix_stack import COPY, Database
from tests.security.fix_people import failure, make_people

Connection = psycopg.Connection[Any]
READ = "SELECT email FROM people WHERE id = 1"


@pytest.fixture(scope="module")
def alone(stack: Stack) -> Iterator[Database]:
    """A database with `people`, in a stack whose broker is then stopped. Its place is free for others."""
    name = f"test_{os.getpid()}_alone"
    with stack.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE {name} {COPY}")
    database = Database(stack, name)
    make_people(database)
    database.sql("GRANT SELECT ON people TO alice")
    stack.broker.stop()
    try:
        yield database
    finally:
        stack.broker.start()
        database.close()
        with stack.connect("postgres") as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def session(alone: Database) -> Iterator[Connection]:
    """A session with an empty keyring."""
    with alone.connect("alice") as connection:
        yield connection


def told(alone: Database, session: Connection, behaviour: Behaviour) -> tuple[str | None, str | None]:
    with FakeBroker(alone.stack.broker.socket, behaviour):
        error = failure(session, READ)
    return error.sqlstate, error.message


def keys(**changes: Any) -> Behaviour:
    """Answers `derive` as a broker would, but for what `changes` says."""

    def behave(connection: socket.socket) -> None:
        asked = request(connection)
        if asked["op"] != "derive":
            # A session also tells of values that do not open, and waits for no answer.
            return
        (dek,) = asked["keys"]
        answer = {"key_id": dek["fields"][0]["key_id"], "key": base64.b64encode(bytes(32)).decode()}
        answer |= changes.pop("answer", {})
        # The library writes NaN, too.
        body = json.dumps({"v": 1, "ok": True, "ttl": 60, "epoch": 1, "keys": [answer]} | changes).encode()
        connection.sendall(len(body).to_bytes(wire.LENGTH_BYTES, "big") + body)

    return behave


def test_no_broker(session: Connection) -> None:
    error = failure(session, READ)
    assert (error.sqlstate, error.message) == ("58000", "pg_envelope: the key broker is not running")
    assert error.hint is not None
    assert "pg-envelope broker" in error.hint


def test_a_setting_of_the_session_moves_no_socket(alone: Database, session: Connection) -> None:
    """A broker of an attacker's, with every name that could be one of a setting pointing at it."""
    session.execute("SET pg_envelope.socket = '/tmp/elsewhere.sock'")
    with contextlib.suppress(psycopg.Error):
        session.execute("SET \"PG_ENVELOPE_SOCKET\" = '/tmp/elsewhere.sock'")
    error = failure(session, READ)
    assert error.message == "pg_envelope: the key broker is not running"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a socket of another user")
def test_a_socket_of_another_user_is_refused(alone: Database, session: Connection) -> None:
    with FakeBroker(alone.stack.broker.socket, lambda connection: None, uid=12345):
        error = failure(session, READ)
    assert error.sqlstate == "55000"
    assert error.message == "pg_envelope: the broker's socket belongs to a user that may not be the broker"
    assert error.detail == "user id 12345"


@pytest.mark.parametrize(
    "behaviour",
    [
        saying(b"SSH-2.0-OpenSSH_9.2\r\n"),
        saying((1 << 21).to_bytes(4, "big")),
        saying(wire.frame({"v": 1, "ok": True})),
        keys(keys=[]),
        keys(keys=5),
        keys(answer={"key_id": 999}),
        keys(answer={"key": base64.b64encode(bytes(31)).decode()}),
        keys(answer={"key": "not base64"}),
        keys(answer={"key": None}),
        keys(ttl=float("nan")),
        keys(ttl=-1),
        keys(ttl="for ever"),
    ],
)
def test_nonsense_has_one_clear_error(alone: Database, session: Connection, behaviour: Behaviour) -> None:
    assert told(alone, session, behaviour) == (
        "58000",
        "pg_envelope: what answers at the broker's socket does not speak protocol 1",
    )


def test_a_broker_that_closes(alone: Database, session: Connection) -> None:
    assert told(alone, session, saying(b"\0\0")) == ("58000", "pg_envelope: the key broker closed the connection")


def test_a_wrong_key_opens_nothing(alone: Database, session: Connection) -> None:
    assert told(alone, session, keys()) == ("XX001", "pg_envelope: the envelope cannot be opened")


def dripping(connection: socket.socket) -> None:
    request(connection)
    connection.sendall((1 << 20).to_bytes(4, "big"))
    while True:
        connection.sendall(b" ")
        time.sleep(0.01)


@pytest.mark.parametrize("how", ["hangs", "drips"])
def test_statement_timeout(alone: Database, session: Connection, how: str) -> None:
    """A wait that nothing interrupts would end with an error of its own, at the broker's deadline."""
    path = alone.stack.broker.socket
    session.execute("SET statement_timeout = '200ms'")
    with hanging(path) if how == "hangs" else FakeBroker(path, dripping):
        assert failure(session, READ).sqlstate == "57014"


@pytest.mark.parametrize(("signal", "sqlstate"), [("cancel", "57014"), ("terminate", "57P01")])
def test_cancel_and_terminate(alone: Database, session: Connection, signal: str, sqlstate: str) -> None:
    with hanging(alone.stack.broker.socket) as broker:

        def end() -> None:
            broker.asked.wait()
            alone.sql(f"SELECT pg_{signal}_backend(%s)", session.info.backend_pid)

        thread = threading.Thread(target=end)
        thread.start()
        error = failure(session, READ)
        thread.join()
    assert error.sqlstate == sqlstate


def test_a_cancelled_fetch_leaves_a_session_that_works(alone: Database, session: Connection) -> None:
    session.execute("SET statement_timeout = '200ms'")
    with hanging(alone.stack.broker.socket):
        assert failure(session, READ).sqlstate == "57014"
    assert failure(session, "SELECT envelope_internal.run_step('postgres')").sqlstate == "42501"
    assert told(alone, session, keys())[0] == "XX001"
