"""A backend or the whole server killed in the middle: every row is there once, and the operation can be repeated."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from stack.processes import wait_until
from stack.stack import Stack
from tests.fix_stack import Database

ROWS = 20_000
PROTECT = """CALL envelope.protect('person', '["email"]')"""
UNPROTECT = "CALL envelope.unprotect('person')"
REENCRYPT = "CALL envelope.reencrypt('person', 500)"
LOCKED = """SELECT EXISTS (SELECT FROM pg_locks WHERE mode = 'AccessExclusiveLock'
    AND relation IN (to_regclass('person'), to_regclass('person_encrypted')))"""
NEWEST = """SELECT count(*) FROM person_encrypted WHERE substr(email, 1, 6) =
    (SELECT substr(seal, 17) FROM envelope_private.capability c JOIN envelope_private.field f USING (field_uuid)
     WHERE f.attname = 'email')"""
Kill = Callable[[Stack, int], None]


def kill_backend(stack: Stack, pid: int) -> None:
    """As the out-of-memory killer does: the postmaster ends all sessions and recovers."""
    with stack.connect("postgres") as witness:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: gone(witness), 60, "the end of all sessions")
    wait_until(stack.cluster.ready, 60, "recovery")


def gone(connection: psycopg.Connection[Any]) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return True
    return False


def kill_server(stack: Stack, pid: int) -> None:
    stack.cluster.crash()
    stack.cluster.start()


@pytest.fixture(params=[kill_backend, kill_server])
def kill(request: pytest.FixtureRequest) -> Kill:
    chosen: Kill = request.param
    return chosen


class Many:
    """A database with a table of many rows, reached anew after each crash; what is committed survives."""

    def __init__(self, stack: Stack, name: str) -> None:
        self.stack, self.name = stack, name

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with self.stack.connect(self.name) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def killed(self, kill: Kill, statement: str, under_way: str, setup: str = "") -> None:
        """Starts the statement, and kills its session or the server once the query `under_way` says true."""
        session = self.stack.connect(self.name)
        if setup:
            session.execute(setup)
        thread = threading.Thread(target=run, args=(session, statement))
        with self.stack.connect(self.name) as watcher:
            thread.start()
            wait_until(lambda: bool(watcher.execute(under_way).fetchall()[0][0]) or not thread.is_alive(), 60, "start")
        assert thread.is_alive(), "the statement was over before it could be killed"
        kill(self.stack, session.info.backend_pid)
        thread.join()
        session.close()

    def assert_whole(self) -> None:
        wrong = "SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE email = 'value ' || id) FROM person"
        assert self.sql(wrong) == [(ROWS, ROWS, ROWS)]
        assert self.sql("SELECT check_name, detail FROM envelope.status() WHERE state <> 'ok'") == []


def run(connection: psycopg.Connection[Any], statement: str) -> None:
    with contextlib.suppress(psycopg.Error):
        connection.execute(statement)


@pytest.fixture
def many(stack: Stack, db: Database) -> Iterator[Many]:
    db.durable()
    db.close()
    found = Many(stack, db.name)
    found.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    found.sql(f"INSERT INTO person SELECT i, 'value ' || i FROM generate_series(1, {ROWS}) i")
    return found


def test_protect(many: Many, kill: Kill) -> None:
    many.killed(kill, PROTECT, LOCKED)
    assert many.sql("SELECT relkind FROM pg_class WHERE relname = 'person'") == [("r",)]
    many.assert_whole()
    many.sql(PROTECT)
    many.assert_whole()


def test_unprotect(many: Many, kill: Kill) -> None:
    many.sql(PROTECT)
    many.killed(kill, UNPROTECT, LOCKED)
    assert many.sql("SELECT relkind FROM pg_class WHERE relname = 'person'") == [("v",)]
    many.assert_whole()
    many.sql(UNPROTECT)
    many.assert_whole()


def test_reencrypt_keeps_its_committed_batches(many: Many, kill: Kill) -> None:
    many.sql(PROTECT)
    many.sql("SELECT envelope.rotate('person')")
    many.killed(kill, REENCRYPT, f"SELECT ({NEWEST}) > 0")
    ((done,),) = many.sql(NEWEST)
    assert 0 < done < ROWS
    many.assert_whole()
    many.sql(REENCRYPT)
    assert many.sql(NEWEST) == [(ROWS,)]
    many.assert_whole()


def test_rotate_before_its_commit(many: Many, kill: Kill) -> None:
    """The key is in the KMS by then; the catalog knows nothing of it."""
    many.sql(PROTECT)
    under_way = (
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database())"
    )
    insert = "BEGIN; SELECT envelope.rotate('person'); UPDATE person SET email = 'lost' WHERE id = 1"
    many.killed(kill, "SELECT pg_sleep(60)", under_way, insert)
    many.assert_whole()
    assert many.sql("SELECT version, state FROM envelope.keys") == [(1, "active")]
    assert many.sql("SELECT envelope.rotate('person')") == [(2,)]
    many.assert_whole()
