"""Measures search columns: look-ups by value in tables of two sizes, and the row that is written with a token."""

from __future__ import annotations

from functools import partial
from typing import Any, LiteralString

import psycopg

from bench.figures import Measure, Samples, of_cpu, seconds
from bench.points import FEW_TRANSACTIONS, nanoseconds
from bench.settings import Settings
from bench.updates import WARMING
from stack.stack import Stack

Connection = psycopg.Connection[Any]

SMALL, LARGE = "small", "large"
PEERS = ("plain", "ours")
# So many times the rows of the other tables.
LARGER = 5
MADE = """
CREATE TABLE found_plain_{0} (id bigint PRIMARY KEY, email text);
INSERT INTO found_plain_{0} SELECT i, 'person.' || i || '@mail.example' FROM generate_series(1, {1}) i;
CREATE TABLE found_ours_{0} (LIKE found_plain_{0} INCLUDING ALL);
INSERT INTO found_ours_{0} SELECT * FROM found_plain_{0};
CREATE INDEX ON found_plain_{0} (email);
CALL envelope.protect('found_ours_{0}', '["email"]');
"""
WRITTEN = """
CREATE TABLE written_plain (id bigint PRIMARY KEY, email text);
CREATE TABLE written_ours (LIKE written_plain INCLUDING ALL);
CALL envelope.protect('written_plain', '["email"]');
CALL envelope.protect('written_ours', '{"email": {"search": "exact"}}');
"""
MANY = "SELECT array_agg('person.' || i || '@mail.example') FROM generate_series(%s::int, %s::int + 99) i"
COLUMNS = {"plain": "email", "ours": "email_search"}
MOST_LOOKUPS = 2000
LISTS = 20


def measure(stack: Stack, settings: Settings) -> list[Measure]:
    with stack.connect() as plain, stack.connect() as ours:
        built = [_make(ours, size, rows) for size, rows in _sizes(settings).items()]
        plain.execute(WRITTEN)
        connections = dict(zip(PEERS, (plain, ours), strict=True))
        looked_up = [_lookup(connections, size, rows, settings) for size, rows in _sizes(settings).items()]
        return [
            *built,
            *looked_up,
            _any(connections, "search_any", "= ANY of 100 values, CPU", "= ANY (%s::text[])", settings),
            _any(
                connections, "search_in", "IN (SELECT unnest) of 100, CPU", "IN (SELECT unnest(%s::text[]))", settings
            ),
            _insert(connections, settings),
        ]


def _sizes(settings: Settings) -> dict[str, int]:
    return {SMALL: settings.rows, LARGE: settings.rows * LARGER}


def _make(connection: Connection, size: str, rows: int) -> Measure:
    """Returns the time in which an index of tokens is made."""
    connection.execute(MADE.format(size, rows))
    took = seconds(lambda: connection.execute(f"CALL envelope.add_search('found_ours_{size}', 'email')"))
    connection.execute(f"VACUUM ANALYZE found_plain_{size}, found_ours_{size}_encrypted")
    return Measure(f"search_made_{size}", f"add_search of {rows:,} rows", "s", {"ours": Samples([took])})


def _lookup(connections: dict[str, Connection], size: str, rows: int, settings: Settings) -> Measure:
    count = MOST_LOOKUPS if settings.point_seconds else FEW_TRANSACTIONS
    step = max(rows // (count + WARMING), 1)
    statements = {peer: f"SELECT id FROM found_{peer}_{size} WHERE {COLUMNS[peer]} = %s" for peer in PEERS}
    values = [f"person.{1 + number * step % rows}@mail.example" for number in range(count + WARMING)]
    samples = _interleaved(connections, statements, values, settings)
    return Measure(f"search_{size}", f"look-up of a value among {rows:,} rows, CPU", "µs", samples)


def _any(connections: dict[str, Connection], name: str, title: str, condition: str, settings: Settings) -> Measure:
    (values,) = connections["plain"].execute(MANY, [1, 1]).fetchone() or ([],)
    statements = {
        peer: f"SELECT count(*) FROM found_{peer}_{SMALL} WHERE {COLUMNS[peer]} {condition}" for peer in PEERS
    }
    return Measure(name, title, "µs", _interleaved(connections, statements, [values] * (LISTS + WARMING), settings))


def _insert(connections: dict[str, Connection], settings: Settings) -> Measure:
    """Measures beside a protected column without a search."""
    count = MOST_LOOKUPS if settings.point_seconds else FEW_TRANSACTIONS
    row = "SELECT n, 'person.' || n || '@mail.example' FROM (SELECT %s::int) s (n)"
    statements = {peer: f"INSERT INTO written_{peer} {row}" for peer in PEERS}
    samples = _interleaved(connections, statements, list(range(count + WARMING)), settings)
    return Measure("search_insert", "INSERT with a token, CPU", "µs", samples)


def _interleaved(
    connections: dict[str, Connection], statements: dict[str, str], values: list[Any], settings: Settings
) -> dict[str, Samples]:
    takes = {peer: partial(_take, connections[peer], statements[peer], values) for peer in PEERS}
    for take in takes.values():
        take()
    return of_cpu(takes, settings.rounds)


def _take(connection: Connection, statement: LiteralString, values: list[Any]) -> float:
    """Returns µs a statement, each with another value, rolled back."""
    with connection.transaction(force_rollback=True), connection.cursor() as cursor:
        for value in values[:WARMING]:
            cursor.execute(statement, [value], prepare=True)
        before = nanoseconds(connection.info.backend_pid)
        for value in values[WARMING:]:
            cursor.execute(statement, [value], prepare=True)
        return (nanoseconds(connection.info.backend_pid) - before) / len(values[WARMING:]) / 1e3
