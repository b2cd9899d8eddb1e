"""Fixtures of the environment tests: one stack whose broker changes sides, and a copy of a database."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import POLICY, breakable

__all__ = ["breakable"]

RULES = """
path "transit/*" { capabilities = ["read", "update"] }
"""
ALL = "SELECT secret FROM person UNION ALL SELECT secret FROM card ORDER BY 1"
VALUES = ["card 1", "card 2", "card 3", "person 1", "person 2", "person 3"]


class Sides:
    """The original, its copy, and a broker of one environment or another on the same OpenBao and KEK."""

    def __init__(self, stack: Stack, original: Database, copy: Database) -> None:
        self.stack, self.original, self.copy = stack, original, copy

    def go(self, environment: str, *rekey_from: str) -> None:
        self.stack.broker.configure({"broker": {"environment": environment, "rekey_from": list(rekey_from)}})
        self.stack.broker.restart()

    @staticmethod
    def rows(db: Database) -> list[str]:
        db.sql("SELECT envelope.flush('test')")
        return [value for (value,) in db.sql(ALL)]

    @staticmethod
    def uuid(db: Database) -> str:
        return str(db.one("SELECT database_uuid FROM envelope_private.installation"))


@pytest.fixture
def sides(breakable: Stack, db: Database, make_db: Callable[[], Database]) -> Sides:
    """A database with keys in both stores, and a copy of it."""
    policy = breakable.openbao.request("GET", POLICY)["data"]["policy"]
    breakable.openbao.request("PUT", POLICY, {"policy": policy + RULES})
    for table, store in (("person", "vault"), ("card", "catalog")):
        db.sql(f"CREATE TABLE {table} (id int PRIMARY KEY, secret text)")
        db.sql(f"INSERT INTO {table} SELECT i, '{table} ' || i FROM generate_series(1, 3) i")
        db.sql(f"""CALL envelope.protect('{table}', '["secret"]', 'default', '{store}')""")
    db.admin.close()
    copy = make_db()
    copy.admin.close()
    with breakable.connect("postgres") as connection:
        connection.execute(f"DROP DATABASE {copy.name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {copy.name} TEMPLATE {db.name}")
    db.admin, copy.admin = db.connect(), copy.connect()
    return Sides(breakable, db, copy)
