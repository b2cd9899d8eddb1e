"""Measures reads of an audited column beside those of a protected column without a level, of one table."""

from __future__ import annotations

from functools import partial
from typing import Any

import psycopg

from bench.figures import Measure, interleaved, seconds
from bench.points import CPU_READS, FEW_TRANSACTIONS, nanoseconds
from bench.settings import Settings
from stack.stack import Stack

MADE = """
CREATE TABLE audited (id int PRIMARY KEY, ours text, audited text);
INSERT INTO audited SELECT i, 'person.' || i || '@mail.example', 'person.' || i || '@mail.example'
    FROM generate_series(1, {}) i;
CALL envelope.protect('audited', '{{"ours": {{}}, "audited": {{"audit": "statement"}}}}');
"""
COLUMNS = ("ours", "audited")


def measure(stack: Stack, settings: Settings) -> list[Measure]:
    """Measures a scan, and a client's statement that reads one value by its key: by the clock, and by the processor
    time of its backend.
    """
    with stack.connect() as connection:
        connection.execute(MADE.format(settings.rows))
        reads = CPU_READS if settings.point_seconds else FEW_TRANSACTIONS
        return [
            _measured("audited_scan", "scan of an audited column", "µs/row", partial(_scan, connection), settings),
            _measured("audited_point", "audited point read", "µs", partial(_clock, connection, reads), settings),
            _measured(
                "audited_cpu", "audited point read, server's CPU", "µs", partial(_cpu, connection, reads), settings
            ),
        ]


def _measured(name: str, title: str, unit: str, take: Any, settings: Settings) -> Measure:
    takes = {column: partial(take, column, settings) for column in COLUMNS}
    for warm in takes.values():
        warm()
    return Measure(name, title, unit, interleaved(takes, settings.rounds))


def _scan(connection: psycopg.Connection[Any], column: str, settings: Settings) -> float:
    statement = f"SELECT count({column}) FROM audited"
    return seconds(lambda: connection.execute(statement).fetchall()) / settings.rows * 1e6


def _clock(connection: psycopg.Connection[Any], reads: int, column: str, settings: Settings) -> float:
    return seconds(lambda: _read(connection, column, settings, reads)) / reads * 1e6


def _cpu(connection: psycopg.Connection[Any], reads: int, column: str, settings: Settings) -> float:
    before = nanoseconds(connection.info.backend_pid)
    _read(connection, column, settings, reads)
    return (nanoseconds(connection.info.backend_pid) - before) / reads / 1e3


def _read(connection: psycopg.Connection[Any], column: str, settings: Settings, reads: int) -> None:
    statement = f"SELECT {column} FROM audited WHERE id = %s"
    for number in range(reads):
        connection.execute(statement, [number % settings.rows + 1], prepare=True).fetchall()
