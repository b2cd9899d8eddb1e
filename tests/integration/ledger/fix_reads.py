"""A table with an audited column, and what the broker recorded of a session that has ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pg_envelope import reads_check
from stack.processes import wait_until
from stack.stack import Stack
from tests.fix_stack import Database

ROWS = 20
WAIT = 60
Event = dict[str, Any]
Recorded = Callable[["psycopg.Connection[Any]"], list[Event]]


def ledger(stack: Stack) -> Path:
    return stack.broker.erasures.with_name("reads.jsonl")


def entries(stack: Stack) -> list[Event]:
    return [entry for _, entry in reads_check.lines(ledger(stack))]


def ring_of(stack: Stack, pid: int) -> str | None:
    """The ring that a backend attached last."""
    found = [entry for entry in entries(stack) if entry["event"] == "attached" and entry["pid"] == pid]
    return found[-1]["ring"] if found else None


def has_ended(stack: Stack, ring: str) -> bool:
    own = [entry["event"] for entry in entries(stack) if entry.get("ring") == ring]
    return own[-1] == "ended"


def events_of(stack: Stack, ring: str | None) -> list[Event]:
    return [event for event in reads_check.events(ledger(stack)) if event["ring"] == ring]


@pytest.fixture
def recorded(stack: Stack) -> Recorded:
    """Ends a session, and gives its events with their last counts."""

    def read(session: psycopg.Connection[Any]) -> list[Event]:
        pid = session.info.backend_pid
        session.close()
        ring = ring_of(stack, pid)
        if ring is None:
            return []
        wait_until(lambda: has_ended(stack, ring), WAIT, "the end of the session in the ledger")
        return events_of(stack, ring)

    return read


def fill(db: Database) -> None:
    """Makes a table whose column email is audited and whose column phone is not; alice may read it."""
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text, phone text, photo bytea)")
    db.sql(f"INSERT INTO person SELECT g, 'user' || g || '@b.c', g, '\\x01' FROM generate_series(1, {ROWS}) g")
    db.sql("ALTER TABLE person OWNER TO owner")
    columns = '{"email": {"audit": "statement"}, "phone": {}, "photo": {"audit": "statement"}}'
    db.sql(f"CALL envelope.protect('person', '{columns}')")
    db.sql("GRANT SELECT, INSERT, UPDATE, DELETE ON person TO alice")
    db.sql("GRANT CREATE ON SCHEMA public TO alice")


@pytest.fixture
def audited(db: Database) -> Database:
    """The test's database, with the table of `fill`."""
    fill(db)
    return db
