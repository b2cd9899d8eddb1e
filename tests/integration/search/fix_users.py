"""The typical table: users of tenants, looked up by a unique e-mail address; and the same one left plain, beside it."""

from __future__ import annotations

from typing import Any

import psycopg

from tests.fix_stack import Database

TABLE = """
CREATE TABLE {name} (id int PRIMARY KEY, tenant_id int NOT NULL, email text UNIQUE, surname text, born date);
CREATE INDEX {name}_by_tenant ON {name} (tenant_id, surname)"""
ROWS = """
INSERT INTO {name} SELECT i, i % 10, 'user' || i || '@example.org', 'name' || i % 97, date '1950-01-01' + i
FROM generate_series(1, {count}) i"""
PROTECT = """CALL envelope.protect('users', '["email", "surname", "born"]')"""


def make_users(db: Database, count: int = 2000, twin: bool = False) -> None:
    """`users`, protected; with `twin` also `plain`, which has the same rows."""
    for name in ("users", "plain") if twin else ("users",):
        db.sql(TABLE.format(name=name))
        db.sql(ROWS.format(name=name, count=count))
    db.sql(PROTECT)
    db.sql("ANALYZE users_encrypted")


def plan(connection: psycopg.Connection[Any], query: str, *values: object, analyze: bool = False) -> str:
    words = "ANALYZE, TIMING OFF, SUMMARY OFF, COSTS OFF" if analyze else "COSTS OFF"
    return "\n".join(line for (line,) in connection.execute(f"EXPLAIN ({words}) {query}", values or None))  # type: ignore[call-overload]
