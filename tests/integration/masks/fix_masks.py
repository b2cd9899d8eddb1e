"""A table whose columns have masks: alice sees them, bob sees the values, and so does the owner."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database

MARK = "5d1e"
CLEAR_EMAIL = f"ada.{MARK}1@example.org"
ROWS = 5
TABLE = f"""
CREATE TABLE person (
    id int PRIMARY KEY, name text, email text NOT NULL CHECK (email LIKE '%@%'), ssn varchar(11),
    born date, paid numeric(8,2), seen timestamptz, photo bytea);
INSERT INTO person SELECT g, 'p' || g, 'ada.{MARK}' || g || '@example.org', '{MARK}-0000' || g, date '1990-07-13' + g,
    1234.56 + g, timestamptz '2026-03-04 05:06:07+00' + g * interval '1 day', '\\x5d1e'
    FROM generate_series(1, {ROWS}) g;
INSERT INTO person VALUES (9, 'p9', 'none@example.org', NULL, NULL, NULL, NULL, NULL);
ALTER TABLE person OWNER TO owner;
"""
RULES = {
    "email": ("email", "{}"),
    "ssn": ("partial", '{"first": 0, "last": 2}'),
    "born": ("year", "{}"),
    "paid": ("bucket", '{"size": 1000}'),
    "seen": ("year", "{}"),
    "photo": ("null", "{}"),
}
MASKED = ", ".join(RULES)
PROTECT = f"""CALL envelope.protect('person', '{{{", ".join(f'"{column}": {{}}' for column in RULES)}}}')"""
SHOWN = ("a***@example.org", "***01", "1990-01-01", "1000.00", "2026-01-01 00:00:00+00", None)
Connection = psycopg.Connection[Any]


def mask_all(db: Database) -> None:
    """Gives each column the rule of RULES for public, and bob the values."""
    with db.admin.transaction():
        for column, (kind, arguments) in RULES.items():
            db.sql("SELECT envelope.mask('person', %s, 'public', %s, %s)", column, kind, arguments)
            db.sql("SELECT envelope.mask('person', %s, 'bob', 'clear')", column)


def make_person(db: Database) -> None:
    db.sql(TABLE)
    db.sql(PROTECT)
    mask_all(db)
    db.sql("GRANT SELECT, INSERT, UPDATE, DELETE ON person TO alice, bob; GRANT CREATE ON SCHEMA public TO alice, bob")


@pytest.fixture
def masked(db: Database) -> Database:
    make_person(db)
    return db


@pytest.fixture
def made_roles(db: Database) -> Iterator[Callable[..., list[str]]]:
    """Makes roles, which go with the test."""
    with contextlib.ExitStack() as undo:

        def make(count: int, options: str = "LOGIN") -> list[str]:
            names = [f"role_{os.urandom(4).hex()}" for _ in range(count)]
            for name in names:
                db.sql(f"CREATE ROLE {name} {options}")
                undo.callback(lambda name=name: db.sql(f"DROP OWNED BY {name}; DROP ROLE {name}"))
            return names

        yield make


def failure(session: Connection, statement: str) -> psycopg.Error:
    with pytest.raises(psycopg.Error) as caught:
        session.execute(statement)
    return caught.value
