"""The row keys that PostgreSQL makes are those of the test vectors."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database
from tests.vectors.records import ROW_KEYS

BY_HAND = """
SELECT envelope_internal.decrypt_text(t.value, c.capability, %s)
FROM {table}_encrypted t, envelope_private.protected_column p JOIN envelope_private.capability c USING (field_uuid)
WHERE p.base = '{table}_encrypted'::regclass"""


def test_an_envelope_is_bound_to_the_row_key_of_the_vector(db: Database) -> None:
    """In one database, because each takes a second."""
    for number, vector in enumerate(ROW_KEYS):
        opened = BY_HAND.format(table=f"t{number}")
        write(db, f"t{number}", vector)
        assert db.one(opened, vector["row_key"]) == "a@b.c", vector["name"]
        for other in (vector["row_key"] + " ", "1:" + vector["row_key"]):
            with pytest.raises(psycopg.errors.DataCorrupted):
                db.sql(opened, other)


def write(db: Database, table: str, vector: dict[str, Any]) -> None:
    """One row of a protected table with the vector's primary key and scope column."""
    key, scope = vector["key"], vector["scope"]
    columns = key if scope is None or scope in key else [*key, scope]
    definitions = ", ".join(f"{name} {kind} NOT NULL" for name, kind, _ in columns)
    primary = ", ".join(name for name, _, _ in key)
    db.sql(f"CREATE TABLE {table} ({definitions}, value text, PRIMARY KEY ({primary}))")
    scoped = f", scope => 'tenant', scope_column => '{scope[0]}'" if scope else ""
    db.sql(f"CALL envelope.protect('{table}', %s::jsonb{scoped})", json.dumps({"value": {"bind": vector["bind"]}}))
    values = ", ".join(f"%s::{kind}" for _, kind, _ in columns)
    texts = [text for _, _, text in columns]
    db.sql(
        f"INSERT INTO {table} ({', '.join(name for name, _, _ in columns)}, value) VALUES ({values}, 'a@b.c')", *texts
    )
