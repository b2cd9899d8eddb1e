"""A database for a whole module: for tests that only add to it, and for hypothesis, which runs a test many times."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from stack.stack import DATABASE, Stack
from tests.fix_stack import NAMES, Database


@pytest.fixture(scope="module")
def shared_db(stack: Stack) -> Iterator[Database]:
    """A database with the extension; `owner` may create in its schema public."""
    name = f"test_{os.getpid()}_{next(NAMES)}"
    with stack.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {DATABASE}")
    database = Database(stack, name)
    database.sql("GRANT CREATE ON SCHEMA public TO owner")
    yield database
    database.close()
    with stack.connect("postgres") as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
