"""A database for a whole module, for hypothesis and for tests that only add to it; what the server itself refuses."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psycopg
import pytest

from stack.stack import DATABASE, Stack
from tests.fix_stack import COPY, NAMES, Database


@pytest.fixture(scope="module")
def shared_db(stack: Stack) -> Iterator[Database]:
    """A database with the extension; `owner` may create in its schema public."""
    name = f"test_{os.getpid()}_{next(NAMES)}"
    with stack.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE {name} {COPY}")
    database = Database(stack, name)
    database.sql("GRANT CREATE ON SCHEMA public TO owner")
    yield database
    database.close()
    with stack.connect("postgres") as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def keeps_types_of_views(stack: Stack) -> bool:
    """Whether the server refuses ALTER ATTRIBUTE ... TYPE of a type that any view names. PostgreSQL 17.12 does."""
    with stack.connect(DATABASE) as connection, connection.transaction(force_rollback=True):
        connection.execute("CREATE TYPE probe AS (n int); CREATE VIEW probes AS SELECT NULL::probe AS p")
        try:
            connection.execute("ALTER TYPE probe ALTER ATTRIBUTE n TYPE text")
        except psycopg.errors.FeatureNotSupported:
            return True
    return False
