"""Keeps sealed files in a table of PostgreSQL, in parts. Large objects have no row-level security."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import IO, Any, cast

import psycopg
from psycopg import sql

from pg_envelope import errors
from pg_envelope_client.sealing.client import NamedKey
from pg_envelope_client.sealing.files import SealedReader, seal_file
from pg_envelope_client.sealing.layout import place
from pg_envelope_client.sealing.ranged import RangedFile

PART = 1 << 16
CREATE = "CREATE TABLE {} (name text, part integer, content bytea NOT NULL, PRIMARY KEY (name, part))"
# What is compressed already would be tried again.
STORAGE = "ALTER TABLE {} ALTER COLUMN content SET STORAGE EXTERNAL"
WRITE = "INSERT INTO {} (name, part, content) VALUES (%s, %s, %s)"
SIZE = "SELECT pg_catalog.sum(pg_catalog.length(content))::pg_catalog.int8 FROM {} WHERE name = %s"
READ = "SELECT content FROM {} WHERE name = %s AND part BETWEEN %s AND %s ORDER BY part"
DELETE = "DELETE FROM {} WHERE name = %s"

Connection = psycopg.Connection[Any]


class Parts(io.RawIOBase):
    """Cuts what is written into parts, and hands each one over with its number. All but the last one are whole."""

    def __init__(self, keep: Callable[[int, bytes], object]) -> None:
        super().__init__()
        self._keep, self._number, self._rest = keep, 0, bytearray()

    def writable(self) -> bool:
        return True

    def write(self, content: Any, /) -> int:
        self._rest += content
        while len(self._rest) >= PART:
            self._hand_over(PART)
        return len(content)

    def end(self) -> None:
        if self._rest:
            self._hand_over(len(self._rest))

    def _hand_over(self, count: int) -> None:
        self._keep(self._number, bytes(self._rest[:count]))
        del self._rest[:count]
        self._number += 1


class FileTable:
    """Sealed files by name, in parts of 64 KiB. `table` is its name, or schema and name. Names are in the clear.

    Each method works in the caller's transaction: a file that was not written to its end goes with the rollback.
    """

    def __init__(self, connection: Connection, key: NamedKey, *table: str) -> None:
        self._connection, self._key, self._table = connection, key, sql.Identifier(*table)

    def create(self) -> None:
        """Makes the table."""
        for statement in (CREATE, STORAGE):
            self._run(statement)

    def write(self, name: str, source: IO[bytes], media_type: str | None = None) -> None:
        """Seals a file under a name that is not in use. Raises psycopg's UniqueViolation for one that is."""
        with self._connection.transaction():
            parts = Parts(lambda number, content: self._run(WRITE, name, number, content))
            seal_file(self._key, source, cast(IO[bytes], parts), self._context(name), media_type=media_type)
            parts.end()

    def open(self, name: str) -> SealedReader:
        """Returns the reader of a file; it reads by the connection. Raises KeyNotFound, InvalidEnvelope."""
        row = self._run(SIZE, name).fetchone()
        size = None if row is None else next(iter(row.values())) if isinstance(row, dict) else row[0]
        if size is None:
            raise errors.KeyNotFound("there is no file of this name in the table", hint="Names are exact.")
        file = RangedFile(int(size), lambda start, count: self._fetch(name, start, count))
        return SealedReader(self._key, cast(IO[bytes], file), self._context(name))

    def delete(self, name: str) -> bool:
        """Returns whether there was such a file."""
        return self._run(DELETE, name).rowcount > 0

    def _fetch(self, name: str, start: int, count: int) -> bytes:
        first, last = start // PART, (start + count - 1) // PART
        rows = self._run(READ, name, first, last).fetchall()
        found = b"".join(bytes(row["content"] if isinstance(row, dict) else row[0]) for row in rows)
        wanted = found[start - first * PART :][:count]
        if len(wanted) != count:
            raise errors.InvalidEnvelope
        return wanted

    def _run(self, statement: str, *values: object) -> psycopg.Cursor[Any]:
        return self._connection.execute(sql.SQL(statement).format(self._table), values or None)

    def _context(self, name: str) -> str:
        return place("table", name)
