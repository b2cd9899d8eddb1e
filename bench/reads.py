"""Takes samples of reads of one column: a scan, and point reads by the key `id`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import psycopg

from bench.figures import Measure, Sampled, interleaved, seconds
from bench.points import CPU_READS, FEW_TRANSACTIONS, nanoseconds
from bench.settings import Settings

Connection = psycopg.Connection[Any]
# Takes one sample of a column.
Take = Callable[[Connection, str], float]


class Reads:
    """The samples of one table, whose rows have the ids from 1 on."""

    def __init__(self, table: str, settings: Settings) -> None:
        self._table, self._rows, self._rounds = table, settings.rows, settings.rounds
        self._reads = CPU_READS if settings.point_seconds else FEW_TRANSACTIONS

    def measured(
        self,
        name: str,
        title: str,
        unit: str,
        take: Take,
        peers: Mapping[str, tuple[Connection, str]],
        sampled: Sampled = interleaved,
    ) -> Measure:
        """Measures some columns in turn, each in a session."""
        takes = {peer: partial(take, connection, column) for peer, (connection, column) in peers.items()}
        for warm in takes.values():
            warm()
        return Measure(name, title, unit, sampled(takes, self._rounds))

    def scan(self, connection: Connection, column: str) -> float:
        """Returns microseconds a row."""
        statement = f"SELECT count({column}) FROM {self._table}"
        return seconds(lambda: connection.execute(statement).fetchall()) / self._rows * 1e6

    def clock(self, connection: Connection, column: str) -> float:
        """Returns microseconds of a client's statement."""
        return seconds(lambda: self._points(connection, column)) / self._reads * 1e6

    def cpu(self, connection: Connection, column: str) -> float:
        """Returns microseconds of its backend's processor time."""
        before = nanoseconds(connection.info.backend_pid)
        self._points(connection, column)
        return (nanoseconds(connection.info.backend_pid) - before) / self._reads / 1e3

    def _points(self, connection: Connection, column: str) -> None:
        statement = f"SELECT {column} FROM {self._table} WHERE id = %s"
        for number in range(self._reads):
            connection.execute(statement, [number % self._rows + 1], prepare=True).fetchall()
