"""The SQL of each command. Names and values travel as parameters: no statement is put together from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Statement:
    """SQL with its parameters, as psycopg's execute takes them."""

    sql: str
    values: tuple[Any, ...] = ()


KEYS = Statement("SELECT * FROM envelope.keys")
COLUMNS = Statement("SELECT * FROM envelope.columns")
STATUS = Statement("SELECT check_name, state, detail, hint FROM envelope.status()")


def create_key(name: str, kek: str, store: str | None) -> Statement:
    return Statement("SELECT envelope.create_key(%s::text, %s::text, %s::text) AS result", (name, kek, store))


def grant_key(name: str, role: str) -> Statement:
    return Statement("SELECT envelope.grant_key(%s::text, %s::regrole) AS result", (name, role))


def revoke_key(name: str, role: str) -> Statement:
    return Statement("SELECT envelope.revoke_key(%s::text, %s::regrole) AS result", (name, role))


def rotate_key(name: str) -> Statement:
    return Statement("SELECT envelope.rotate_key(%s::text) AS result", (name,))


def rotate_table(table: str) -> Statement:
    return Statement("SELECT envelope.rotate(%s::regclass) AS result", (table,))


def rotate_field(table: str, column: str) -> Statement:
    return Statement("SELECT envelope.rotate_field(%s::regclass, %s::name) AS result", (table, column))


def rotate_emergency(table: str, reason: str) -> Statement:
    return Statement("CALL envelope.rotate_emergency(%s::regclass, %s::text)", (table, reason))


def rotate_kek(kek: str) -> Statement:
    return Statement("CALL envelope.rotate_kek(%s::text)", (kek,))


def rewrap(kek: str) -> Statement:
    return Statement("CALL envelope.rewrap(%s::text)", (kek,))


def key_exists(name: str) -> Statement:
    return Statement("SELECT EXISTS (SELECT FROM envelope.keys WHERE name = %s::text) AS result", (name,))


def table_exists(name: str) -> Statement:
    return Statement("SELECT to_regclass(%s::text) IS NOT NULL AS result", (name,))


def protect(table: str, columns: Mapping[str, Mapping[str, Any]], kek: str, store: str | None) -> Statement:
    wanted = json.dumps(columns, ensure_ascii=False)
    return Statement("CALL envelope.protect(%s::regclass, %s::jsonb, %s::text, %s::text)", (table, wanted, kek, store))


def unprotect(table: str) -> Statement:
    return Statement("CALL envelope.unprotect(%s::regclass)", (table,))


def reencrypt(table: str, batch_size: int) -> Statement:
    return Statement("CALL envelope.reencrypt(%s::regclass, %s::integer)", (table, batch_size))
