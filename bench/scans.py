"""Measures full scans: count() of the decrypted text of one and of three columns."""

from __future__ import annotations

from functools import partial
from typing import Any

import psycopg

from bench.figures import Measure, interleaved, seconds
from bench.peers import Peer
from bench.settings import Settings


def measure(connection: psycopg.Connection[Any], peers: list[Peer], settings: Settings) -> list[Measure]:
    """Returns microseconds per row, which makes slow peers with fewer rows comparable."""
    return [_scan(connection, peers, settings, columns) for columns in (1, 3)]


def _scan(connection: psycopg.Connection[Any], peers: list[Peer], settings: Settings, columns: int) -> Measure:
    takes = {peer.name: partial(_take, connection, peer, settings, columns) for peer in peers}
    for take in takes.values():
        take()  # Buffers, plans and keys are warm from here on.
    title = f"full scan, {columns} column{'s' if columns > 1 else ''}"
    return Measure(f"scan_{columns}", title, "µs/row", interleaved(takes, settings.rounds))


def _take(connection: psycopg.Connection[Any], peer: Peer, settings: Settings, columns: int) -> float:
    rows = settings.rows_of(peer.slow, settings.rows)
    return seconds(lambda: connection.execute(peer.scan(columns)).fetchall()) / rows * 1e6
