"""The revocation epoch, keys' time to live, and a broker that comes and goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database
from tests.security.fix_people import failure, value

Connection = psycopg.Connection[Any]
READ = "SELECT email FROM people WHERE id = 1"


@pytest.fixture
def warm(people: Database) -> Connection:
    people.sql("GRANT SELECT ON people TO alice")
    session = people.connect("alice")
    assert value(session, READ) == "ann@example.org"
    return session


@pytest.fixture
def away(people: Database, warm: Connection) -> Iterator[None]:
    """After `warm`, no broker."""
    people.stack.broker.stop()
    yield
    people.stack.broker.start()


@pytest.mark.usefixtures("away")
def test_a_warm_session_reads_on_without_a_broker(people: Database, warm: Connection) -> None:
    assert value(warm, READ) == "ann@example.org"
    assert failure(people.connect("alice"), READ).sqlstate == "58000"


def test_flush_empties_every_keyring(people: Database, warm: Connection) -> None:
    people.sql("SELECT envelope.flush('test')")
    people.stack.broker.stop()
    try:
        assert failure(warm, READ).sqlstate == "58000"
    finally:
        people.stack.broker.start()
    assert value(warm, READ) == "ann@example.org"


@pytest.mark.usefixtures("away")
def test_without_the_epoch_file_no_cached_key_is_used(people: Database, warm: Connection) -> None:
    people.stack.broker.epoch_file.unlink()
    with pytest.raises(psycopg.errors.SystemError, match="the key broker is not running"):
        read_on(warm)


def test_a_new_epoch_file_is_taken_up(people: Database, warm: Connection) -> None:
    """A flush reaches also a session that had mapped a file which is gone."""
    people.stack.broker.stop()
    people.stack.broker.epoch_file.unlink()
    people.stack.broker.start()
    inode = people.stack.broker.epoch_file.stat().st_ino
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        value(warm, READ)
        if str(inode) in mapped(warm):
            return
    pytest.fail("the session still maps the old file")


def mapped(session: Connection) -> str:
    with open(f"/proc/{session.info.backend_pid}/maps") as maps:
        return "".join(line for line in maps if line.rstrip().endswith("/epoch"))


def test_a_key_is_used_no_longer_than_the_broker_says(people: Database, warm: Connection) -> None:
    broker = people.stack.broker
    # A key's time never outlives the broker's own next look at the KMS, so let that be far away.
    people.sql("SELECT envelope.flush()")
    value(warm, READ)
    broker.configure({"cache": {"session_ttl_seconds": 1.0}})
    broker.restart()
    try:
        with people.connect("alice") as session:
            assert value(session, READ) == "ann@example.org"
            broker.stop()
            with pytest.raises(psycopg.errors.SystemError, match="the key broker is not running"):
                read_on(session)
            assert value(warm, READ) == "ann@example.org", "a key of before has the time it was given"
    finally:
        broker.configure({"cache": {"session_ttl_seconds": 300.0}})
        broker.start()


def read_on(session: Connection) -> None:
    """Reads for as long as one can, but not for ever."""
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        session.execute(READ)
