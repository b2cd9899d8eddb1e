"""A protected table of `owner`, and what attacks have in common."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.fix_stack import Database

DENIED = "42501"
BAD_ENVELOPE = "XX001"
ROWS = [(1, "ann@example.org", "112"), (2, "ben@example.org", "911"), (3, None, None)]


class Failure:
    """An error as its client sees it."""

    def __init__(self, error: psycopg.Error) -> None:
        self.sqlstate = error.sqlstate
        self.message = error.diag.message_primary
        self.detail = error.diag.message_detail
        self.hint = error.diag.message_hint
        self.everything = "\n".join(
            text for name in dir(error.diag) if not name.startswith("_") and (text := getattr(error.diag, name))
        )

    def public(self) -> tuple[str | None, ...]:
        return self.sqlstate, self.message, self.detail, self.hint


def failure(connection: psycopg.Connection[Any], statement: str, *values: Any) -> Failure:
    """The error that a statement must end with."""
    with pytest.raises(psycopg.Error) as raised:
        connection.execute(statement, values or None)
    return Failure(raised.value)


def value(connection: psycopg.Connection[Any], statement: str, *values: Any) -> Any:
    """The first column of the first row."""
    row = connection.execute(statement, values or None).fetchone()
    return row and row[0]


def protect(db: Database, table: str, columns: str) -> None:
    db.sql("CALL envelope.protect(%s::regclass, %s::jsonb)", table, columns)


def make_people(db: Database, name: str = "people", owner: str = "owner") -> None:
    """people (id, email, phone) of `owner`, with ROWS; e-mail and phone are protected."""
    table = sql.Identifier(name).as_string(None)
    db.sql(f"CREATE TABLE {table} (id int PRIMARY KEY, email text, phone text)")
    db.sql(f"ALTER TABLE {table} OWNER TO {owner}")
    for row in ROWS:
        db.sql(f"INSERT INTO {table} VALUES (%s, %s, %s)", *row)
    protect(db, table, '["email", "phone"]')


def stored(db: Database, column: str = "email", row: int = 1, table: str = "people") -> bytes:
    """An envelope, as a thief of the disk has it."""
    return bytes(db.one(f"SELECT {column} FROM {table}_encrypted WHERE id = %s", row))


def field_uuid(db: Database, column: str = "email", table: str = "people") -> Any:
    return db.one(
        'SELECT field_uuid FROM envelope.columns WHERE relation = %s::regclass AND "column" = %s', table, column
    )


@pytest.fixture
def people(db: Database) -> Database:
    """The test's database, with the protected table `people`."""
    make_people(db)
    return db
