"""A table with a masked and a searchable column, and a few roles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database

MEMBERS = 4
PHONE, EMAIL = "0201234567", "ada@example.org"
MASK = "***4567"
Matrix = dict[tuple[str, str], dict[str, object]]


def fill_shop(db: Database) -> None:
    db.sql("CREATE TABLE customer (id int PRIMARY KEY, email text, phone text)")
    db.sql(f"INSERT INTO customer VALUES (1, '{EMAIL}', '{PHONE}'), (2, NULL, NULL)")
    db.sql("ALTER TABLE customer OWNER TO owner")
    columns = '{"email": {"search": {"exact": {"force": true}}}, "phone": {}}'
    db.sql(f"CALL envelope.protect('customer', '{columns}')")
    db.sql("SELECT envelope.mask('customer', 'phone', 'public', 'phone')")


@pytest.fixture
def shop(db: Database) -> Database:
    """The database is a copy that has this table: the fixture `db` of this folder."""
    return db


@pytest.fixture
def group(shop: Database, made_roles: Callable[..., list[str]]) -> list[str]:
    return made_roles(MEMBERS)


def matrix(db: Database, *, proof: bool = True) -> Matrix:
    rows = db.sql('SELECT role, "column", access, paths, direct, proved, finding FROM envelope.access(%s)', proof)
    names = ("access", "paths", "direct", "proved", "finding")
    return {(row[0], row[1]): dict(zip(names, row[2:], strict=True)) for row in rows}


def outcome(db: Database, role: str, statement: str) -> Any:
    """Returns the rows that a role gets, or the SQLSTATE."""
    try:
        with db.admin.transaction():
            db.sql(f"SET LOCAL ROLE {role}")
            rows = db.sql(statement)
            db.sql("RESET ROLE")
            return rows
    except psycopg.Error as error:
        return error.sqlstate
