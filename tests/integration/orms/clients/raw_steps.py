"""Statements that raw drivers run, each with the change that docs/orms.md asks for."""

from __future__ import annotations

import datetime as dt
import json
import os
from typing import Any

ROWS = [("ada", "ada@example.org", dt.date(1815, 12, 10)), ("alan", "alan@example.org", None)]
CHANGED = bool(os.environ.get("CHANGED"))
INTO = "customer_upsert AS customer" if CHANGED else "customer"
INSERT = "INSERT INTO {into} (login, email, born) VALUES ({given})"
ALL = "SELECT login, email, born, visits FROM customer ORDER BY login"
STAR = "SELECT id, login, email, born, visits FROM customer" if CHANGED else "SELECT * FROM customer"
TRUNCATE = "CALL envelope.truncate('customer', \"cascade\" => true)" if CHANGED else "TRUNCATE customer CASCADE"
GROUP = (
    "SELECT c.login, c.email, count(p.id) FROM customer c LEFT JOIN purchase p ON p.customer_id = c.id"
    f" GROUP BY c.id{', c.login, c.email' if CHANGED else ''} ORDER BY 1"
)
COPIED = "(SELECT login, email, born FROM customer ORDER BY login)" if CHANGED else "customer (login, email, born)"
UPDATE_SET = " ON CONFLICT (login) DO UPDATE SET email = excluded.email"
IGNORE = " ON CONFLICT DO NOTHING"
IGNORE_TARGET = " ON CONFLICT (login) DO NOTHING"
MERGED = "SELECT count(*) FROM customer a JOIN customer b ON a.email = b.email AND a.born IS NOT DISTINCT FROM b.born"


def told(seen: dict[str, Any]) -> None:
    print(json.dumps(seen, default=str))
