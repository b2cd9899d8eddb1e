"""Clients as an application has them: unprivileged, each with rows of its own, and it knows what they must hold."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg

from .board import Board

Connect = Callable[[], "psycopg.Connection[Any]"]

TENANTS = 5
ROWS_EACH = 50
SUBJECTS_EACH = 40
# A guest leaves after so many statements: its connection, and the server's process, are new ones then.
GUEST_STAYS = 60
HIGHEST = 1_000_000
CLIENTS = 6
TABLES = f"""
CREATE TABLE person (id int PRIMARY KEY, value text);
CREATE TABLE visit (id int PRIMARY KEY, tenant text NOT NULL, value text);
CREATE TABLE citizen (id int PRIMARY KEY, value text);
INSERT INTO person SELECT id, 'person ' || id || ' 0' FROM generate_series(0, {CLIENTS * ROWS_EACH - 1}) id;
INSERT INTO visit SELECT id, 'tenant ' || id % {TENANTS}, 'visit ' || id || ' 0'
    FROM generate_series(0, {CLIENTS * ROWS_EACH - 1}) id;
CALL envelope.protect('person', '["value"]');
CALL envelope.protect('visit', '["value"]', scope => 'tenant', scope_column => 'tenant');
CALL envelope.protect('citizen', '["value"]', scope => 'subject', scope_column => 'id', erased => 'null');
GRANT SELECT, INSERT, UPDATE, DELETE ON person, visit, citizen TO soaker"""


def tenant_of(table: str, row: int) -> str | None:
    return f"tenant {row % TENANTS}" if table == "visit" else None


class Client:
    """Reads and writes until `end`; `held` is what each of its rows must read as."""

    def __init__(self, board: Board, connect: Connect, number: int, seed: int, *, guest: bool = False) -> None:
        self._board, self._connect, self._guest = board, connect, guest
        self._chance = random.Random(f"{seed} client {number}")
        rows = range(number * ROWS_EACH, (number + 1) * ROWS_EACH)
        self.held = {(table, row): f"{table} {row} 0" for table in ("person", "visit") for row in rows}
        self._subjects: list[int] = []
        self._next, self._count = (number + 1) * HIGHEST, 0
        self.connection = connect()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        self._thread.join(120)
        assert not self._thread.is_alive(), "a client hangs"
        self.connection.close()

    def _run(self) -> None:
        acts = [self._read] * 10 + [self._write] * 5 + [self._appear, self._leave, self._scan]
        while not self._stop.is_set():
            self._chance.choice(acts)()
            self._count += 1
            if self._guest and self._count % GUEST_STAYS == 0:
                self.connection.close()
                self.connection = self._connect()

    def _ask(self, kind: str, query: str, *values: Any, tenant: str | None = None) -> list[Any] | None:
        """Its rows; None when it failed. A failed statement of a server that lives has changed nothing."""
        begun = time.monotonic()
        try:
            cursor = self.connection.execute(query, values)
            rows = cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            self._board.failed(kind, begun, error, tenant)
            return None
        self._board.done(kind, begun, tenant)
        return rows

    def _read(self) -> None:
        table, row = self._chance.choice(list(self.held))
        query = f"SELECT value FROM {table} WHERE id = %s"
        found = self._ask("read", query, row, tenant=tenant_of(table, row))
        if found is not None and found != [(self.held[table, row],)]:
            self._board.surprise(f"{table} {row} reads {found}, written was {self.held[table, row]!r}")

    def _write(self) -> None:
        table, row = self._chance.choice(list(self.held))
        value = f"{table} {row} {self._count}"
        query = f"UPDATE {table} SET value = %s WHERE id = %s RETURNING id"
        found = self._ask("write", query, value, row, tenant=tenant_of(table, row))
        if found is None:
            return
        if found != [(row,)]:
            self._board.surprise(f"{table} {row}: an UPDATE found {found}")
        self.held[table, row] = value

    def _appear(self) -> None:
        """A new subject, whose key is made by this."""
        self._next += 1
        value = f"citizen {self._next} 0"
        if self._ask("new subject", "INSERT INTO citizen VALUES (%s, %s)", self._next, value) is not None:
            self.held["citizen", self._next] = value
            self._subjects.append(self._next)

    def _leave(self) -> None:
        """So that the tables stay as they are."""
        if len(self._subjects) <= SUBJECTS_EACH:
            return
        row = self._subjects[0]
        if self._ask("delete", "DELETE FROM citizen WHERE id = %s", row) is not None:
            del self.held["citizen", self._subjects.pop(0)]

    def _scan(self) -> None:
        self._ask("scan", "SELECT count(*) FROM person WHERE value LIKE 'person %%'")


READS = {
    "person": "SELECT id, value FROM person ORDER BY random() LIMIT 5",
    "visit": "SELECT id, value FROM visit WHERE tenant = 'tenant 1' ORDER BY random() LIMIT 5",
}
# A row as it is replayed, and a revocation as it is noticed: docs/operations.md, "Revocation".
LATE_SECONDS = 10.0


class StandbyReader:
    """Reads rows on a standby: each is one that was written, and none goes back to what it was before."""

    def __init__(self, board: Board, connect: Connect) -> None:
        self._board, self.connection = board, connect()
        self._seen: dict[tuple[str, int], int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        self._thread.join(120)
        assert not self._thread.is_alive(), "the standby's reader hangs"
        self.connection.close()

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            for table, query in READS.items():
                self._look(table, query)

    def _look(self, table: str, query: str) -> None:
        begun = time.monotonic()
        try:
            rows = self.connection.execute(query).fetchall()
        except psycopg.Error as error:
            self._board.failed("read on the standby", begun, error, tenant_of(table, 1), LATE_SECONDS)
            return
        self._board.done("read on the standby", begun)
        for row, value in rows:
            self._check(table, row, value)

    def _check(self, table: str, row: int, value: str) -> None:
        found = re.fullmatch(rf"{table} {row} (\d+)", value)
        count = int(found[1]) if found else -1
        if count < self._seen.get((table, row), 0):
            self._board.surprise(f"{table} {row} reads {value!r} on the standby, and before {self._seen}")
        self._seen[table, row] = count
