"""Measures reads of a masked column, by a role that sees values and by one that sees masks, beside a column without
rules in the same table.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import psycopg

from bench.figures import Measure, interleaved, seconds
from bench.points import CPU_READS, FEW_TRANSACTIONS, nanoseconds
from bench.settings import Settings
from stack.stack import Stack

CLEAR, MASKED = "masked_clear", "masked_reader"
MADE = """
CREATE ROLE {clear}; CREATE ROLE {masked};
CREATE TABLE masks (id int PRIMARY KEY, ours text, masked text);
INSERT INTO masks SELECT i, 'person.' || i || '@mail.example', 'person.' || i || '@mail.example'
    FROM generate_series(1, {rows}) i;
CALL envelope.protect('masks', '["ours", "masked"]');
GRANT SELECT ON masks TO {clear}, {masked};
SELECT envelope.mask('masks', 'masked', 'public', 'email'), envelope.mask('masks', 'masked', '{clear}', 'clear');
"""
# By the peer: the column, and the role that reads it.
READS = {"ours": ("ours", CLEAR), "clear": ("masked", CLEAR), "masked": ("masked", MASKED)}


def measure(stack: Stack, settings: Settings) -> list[Measure]:
    """Measures a scan by the clock, and a point read by the processor time of its backend."""
    with stack.connect() as admin:
        admin.execute(MADE.format(clear=CLEAR, masked=MASKED, rows=settings.rows))
    with stack.connect() as clear, stack.connect() as masked:
        clear.execute(f"SET ROLE {CLEAR}")
        masked.execute(f"SET ROLE {MASKED}")
        sessions = {CLEAR: clear, MASKED: masked}
        reads = CPU_READS if settings.point_seconds else FEW_TRANSACTIONS
        return [
            _measured("masked_scan", "scan of a masked column", "µs/row", _scan, sessions, settings),
            _measured(
                "masked_cpu", "masked point read, server's CPU", "µs", partial(_cpu, reads=reads), sessions, settings
            ),
        ]


def _measured(
    name: str, title: str, unit: str, take: Any, sessions: dict[str, psycopg.Connection[Any]], settings: Settings
) -> Measure:
    takes = {peer: partial(take, sessions[role], column, settings) for peer, (column, role) in READS.items()}
    for warm in takes.values():
        warm()
    return Measure(name, title, unit, interleaved(takes, settings.rounds))


def _scan(connection: psycopg.Connection[Any], column: str, settings: Settings) -> float:
    statement = f"SELECT count({column}) FROM masks"
    return seconds(lambda: connection.execute(statement).fetchall()) / settings.rows * 1e6


def _cpu(connection: psycopg.Connection[Any], column: str, settings: Settings, reads: int) -> float:
    statement = f"SELECT {column} FROM masks WHERE id = %s"
    before = nanoseconds(connection.info.backend_pid)
    for number in range(reads):
        connection.execute(statement, [number % settings.rows + 1], prepare=True).fetchall()
    return (nanoseconds(connection.info.backend_pid) - before) / reads / 1e3
