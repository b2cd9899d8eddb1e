"""Measures statements that ask for a right each time: tables with row-level security, and named keys."""

from __future__ import annotations

from functools import partial
from typing import Any

import psycopg

from bench.figures import Measure, of_cpu
from bench.points import FEW_TRANSACTIONS, nanoseconds
from bench.settings import Settings
from stack.stack import Stack

READER = "rights_reader"
Query = tuple[str, object]
Call = tuple[psycopg.Connection[Any], str, object]
MADE = f"""
CREATE ROLE {READER};
CREATE TABLE rls_plain (id int PRIMARY KEY, email text, phone text, note text, city text);
INSERT INTO rls_plain SELECT i, 'mail' || i, 'phone' || i, 'note' || i, 'Oslo' FROM generate_series(1, 1000) i;
CREATE TABLE rls_ours (LIKE rls_plain INCLUDING ALL);
INSERT INTO rls_ours TABLE rls_plain;
ALTER TABLE rls_plain ENABLE ROW LEVEL SECURITY;
ALTER TABLE rls_ours ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON rls_plain USING (true);
CREATE POLICY everybody ON rls_ours USING (true);
CALL envelope.protect('rls_ours', '["email", "phone", "note"]');
GRANT SELECT, UPDATE ON rls_plain, rls_ours TO {READER};
SELECT envelope.create_key('bench'), envelope.grant_key('bench', '{READER}');
"""
POINT_READ = "SELECT email FROM rls_plain WHERE id = %s"
STATEMENTS = (
    ("rls_column", "RLS table, one column", "SELECT email FROM rls_{} WHERE id = %s"),
    ("rls_row", "RLS table, whole row", "SELECT * FROM rls_{} WHERE id = %s"),
    ("rls_update", "RLS table, UPDATE open column", "UPDATE rls_{} SET city = 'Lima' WHERE id = %s"),
)
ENCRYPT, DECRYPT = "SELECT envelope.encrypt(%s, 'bench')", "SELECT envelope.decrypt(%s)"
MOST_STATEMENTS = 500


def measure(stack: Stack, settings: Settings) -> list[Measure]:
    """Measures the processor time of one statement of a role with the grant for it. Named keys stand beside a point
    read.
    """
    with stack.connect() as plain, stack.connect() as ours:
        plain.execute(MADE)
        for connection in (plain, ours):
            connection.execute(f"SET ROLE {READER}")
        envelope = ours.execute(ENCRYPT, ["value"]).fetchone()
        stored = envelope[0] if envelope else None
        wanted: list[tuple[str, str, Query, Query]] = [
            *((name, title, (text.format("plain"), 1), (text.format("ours"), 1)) for name, title, text in STATEMENTS),
            ("named_encrypt", "named key, encrypt", (POINT_READ, 1), (ENCRYPT, "value")),
            ("named_decrypt", "named key, decrypt", (POINT_READ, 1), (DECRYPT, stored)),
        ]
        return [
            _measured(name, title, {"plain": (plain, *left), "ours": (ours, *right)}, settings)
            for name, title, left, right in wanted
        ]


def _measured(name: str, title: str, calls: dict[str, Call], settings: Settings) -> Measure:
    count = MOST_STATEMENTS if settings.point_seconds else FEW_TRANSACTIONS
    takes = {peer: partial(_take, *call, count) for peer, call in calls.items()}
    for take in takes.values():
        take()
    return Measure(name, f"{title}, CPU", "µs", of_cpu(takes, settings.rounds))


def _take(connection: psycopg.Connection[Any], statement: str, argument: object, count: int) -> float:
    before = nanoseconds(connection.info.backend_pid)
    with connection.cursor() as cursor:
        for _ in range(count):
            cursor.execute(statement, [argument], prepare=True)
    return (nanoseconds(connection.info.backend_pid) - before) / count / 1e3
