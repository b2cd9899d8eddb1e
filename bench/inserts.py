"""Measures inserts: one INSERT ...

SELECT of many rows, and single rows by a prepared statement. Each is rolled back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg

from bench import tables
from bench.figures import Measure, interleaved, seconds
from bench.peers import Peer
from bench.settings import Settings

Connection = psycopg.Connection[Any]


def measure(connection: Connection, peers: list[Peer], settings: Settings) -> list[Measure]:
    kinds: tuple[tuple[str, str, Callable[[Connection, Peer, int, int], None]], ...] = (
        ("insert_select", "INSERT ... SELECT, 3 columns", _at_once),
        ("insert_single", "single-row INSERT, prepared", _one_by_one),
    )
    measures = []
    for name, title, insert in kinds:
        takes = {peer.name: partial(_take, connection, peer, settings, insert) for peer in peers}
        for take in takes.values():
            take()
        measures.append(Measure(name, title, "µs/row", interleaved(takes, settings.rounds)))
    return measures


def _take(
    connection: Connection, peer: Peer, settings: Settings, insert: Callable[[Connection, Peer, int, int], None]
) -> float:
    count = settings.rows_of(peer.slow, settings.insert_rows)
    with connection.transaction(force_rollback=True):
        return seconds(lambda: insert(connection, peer, settings.rows + 1, count)) / count * 1e6


def _at_once(connection: Connection, peer: Peer, first_id: int, count: int) -> None:
    connection.execute(peer.insert(tables.people(first_id, count)))


def _one_by_one(connection: Connection, peer: Peer, first_id: int, count: int) -> None:
    statement = peer.insert(tables.one_person())
    with connection.cursor() as cursor:
        for person in range(first_id, first_id + count):
            values = (person, "Grace Hopper", f"person.{person}@mail.example", "+47 12345678", "Oslo", "2024-02-29")
            cursor.execute(statement, values, prepare=True)
