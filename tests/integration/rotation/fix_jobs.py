"""A table with enough blocks for several jobs, and re-encryptions that run beside the test."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from stack.processes import wait_until
from tests.fix_stack import Database, Fill

ROWS = 3000
HEADERS = "SELECT count(DISTINCT substr(email, 1, 6)) FROM person_encrypted"
OLD = """
SELECT count(*) FROM person_encrypted
WHERE substr(email, 1, 6) <> (SELECT substr(seal, 17) FROM envelope_private.capability c
    JOIN envelope_private.field f USING (field_uuid) WHERE f.attname = 'email')"""
PROGRESS = "SELECT part, parts, state, blocks_done, blocks_total, rows FROM envelope.progress"


class Beside:
    """A statement in a thread and a session of its own."""

    def __init__(self, db: Database, statement: str, *setup: str) -> None:
        self.session = db.connect()
        for line in setup:
            self.session.execute(line)
        self.pid = self.session.info.backend_pid
        self.notices: list[str] = []
        self.error: psycopg.Error | None = None
        self.session.add_notice_handler(lambda report: self.notices.append(report.message_primary or ""))
        self._thread = threading.Thread(target=self._run, args=(statement,))
        self._thread.start()

    def _run(self, statement: str) -> None:
        try:
            self.session.execute(statement)
        except psycopg.Error as error:
            self.error = error

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def end(self) -> psycopg.Error | None:
        self._thread.join(60)
        assert not self.alive
        return self.error


def until(db: Database, query: str, what: str, *values: Any) -> None:
    wait_until(lambda: bool(db.one(query, *values)), 60, what)


def until_state(db: Database, state: str, part: int = 1) -> None:
    query = "SELECT count(*) > 0 FROM envelope.progress WHERE state = %s AND part = %s"
    until(db, query, f"state {state}", state, part)


def fill(db: Database) -> None:
    """Makes a table of many rows, all under an old version."""
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    db.sql(f"INSERT INTO person SELECT i, 'value ' || i FROM generate_series(1, {ROWS}) i")
    db.sql("""CALL envelope.protect('person', '["email"]')""")
    db.sql("VACUUM ANALYZE person_encrypted")
    db.sql("SELECT envelope.rotate('person')")


@pytest.fixture
def crowd(filled: Callable[[Fill], Database]) -> Database:
    """A database as `fill` makes it, for tests that destroy no key."""
    return filled(fill)


def assert_whole(db: Database) -> None:
    """Every row reads as it was written, and no envelope is old."""
    assert db.sql("SELECT count(*), count(*) FILTER (WHERE email <> 'value ' || id) FROM person") == [(ROWS, 0)]
    assert db.one(OLD) == 0
