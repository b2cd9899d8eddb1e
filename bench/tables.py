"""Makes and fills the tables of all peers that the server has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import psycopg

from bench.figures import seconds
from bench.peers import ALL, EXTENSIONS, PLAIN, PROTECTED, SOURCE_COLUMNS, Peer
from bench.settings import Settings

FIRST = ("Ada", "Zoë", "Grace", "Nils", "Ingrid", "José", "Mei", "Olu", "Priya", "Łukasz")
LAST = ("Hopper", "Ångström", "Nakamura", "Okafor", "García", "Lindqvist", "O’Brien", "Weiß")
CITIES = ("Oslo", "Kyoto", "Lagos", "Lima", "Gdańsk")


def people(first_id: int, count: int) -> str:
    """Returns a table expression, named source, of so many people, the same for the same ids."""

    def pick(words: tuple[str, ...], step: int) -> str:
        return f"('{{{','.join(words)}}}'::text[])[1 + id / {step} % {len(words)}]"

    return f"""(SELECT id, {pick(FIRST, 1)} || ' ' || {pick(LAST, 7)} AS name,
        'person.' || id || '@mail' || id % 37 || '.example' AS email,
        '+47 ' || lpad((id * 7919 % 100000000)::text, 8, '0') AS phone, {pick(CITIES, 3)} AS city,
        date '2020-01-01' + (id % 2000)::int AS joined
        FROM generate_series({first_id}::bigint, {first_id + count - 1}) id) source"""


def one_person() -> str:
    """Returns the same from parameters, for a prepared statement."""
    parameters = ", ".join(f"%s::{kind} AS {name}" for name, kind in SOURCE_COLUMNS.items())
    return f"(SELECT {parameters}) source"


def make(connection: psycopg.Connection[Any], settings: Settings) -> tuple[list[Peer], float]:
    """Makes the peers that the server has, with their tables. Returns them, and the seconds that protect() took."""
    found = [peer for peer in ALL if _available(connection, peer)]
    for peer in found:
        connection.execute(peer.create())
        for statement in peer.prepare:
            connection.execute(statement)
        connection.execute(peer.insert(people(1, settings.rows_of(peer.slow, settings.rows))))
    protect = "CALL envelope.protect('ours', %s)"
    took = seconds(lambda: connection.execute(protect, [json.dumps(PROTECTED)]))
    connection.execute("VACUUM ANALYZE")
    return found, took


def _available(connection: psycopg.Connection[Any], peer: Peer) -> bool:
    extension = EXTENSIONS.get(peer.name)
    if extension is None:
        return True
    row = connection.execute("SELECT FROM pg_available_extensions WHERE name = %s", [extension]).fetchone()
    if row is not None:
        connection.execute(f"CREATE EXTENSION IF NOT EXISTS {extension}")
    return row is not None


def check(connection: psycopg.Connection[Any], peers: Sequence[Peer]) -> None:
    """Checks that all give what the plain table holds: a benchmark of wrong answers would be quick."""
    for peer in peers:
        columns = ", ".join(f"{peer.read(column)} AS {column}" for column in PROTECTED)
        read = f"SELECT id, {columns} FROM {peer.view or peer.name}"
        right = f"SELECT id, {', '.join(PROTECTED)} FROM {PLAIN.name}"
        row = connection.execute(f"SELECT count(*) FROM ({read} EXCEPT {right}) d").fetchone()
        if row != (0,):
            raise AssertionError(f"the table of {peer.title} does not read as the plain one")
