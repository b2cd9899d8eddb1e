"""Measures an adoption: reads of old values beside pgcrypto, the conversion, and reads afterwards."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg

from bench.figures import Measure, Samples, interleaved, seconds
from bench.points import nanoseconds
from bench.settings import Settings
from pg_envelope.foreign.keys import parse
from pg_envelope.foreign.writers import writer_of
from stack.stack import Stack

# pgcrypto takes a fifth of a millisecond for a value.
MOST_ROWS = {"pgp_sym": 2000, "node_json": 50_000}
PHRASE = "correct horse"
KEYS = {"pgp_sym": parse("text", PHRASE.encode()), "node_json": parse("hex", b"5a" * 32)}
SECRETS = {"pgp_sym": ("text", PHRASE.encode()), "node_json": ("hex", b"5a" * 32)}
Connection = psycopg.Connection[Any]


def measure(stack: Stack, settings: Settings) -> list[Measure]:
    with stack.connect() as connection:
        rows = {form: min(settings.rows, most) for form, most in MOST_ROWS.items()}
        for form, count in rows.items():
            _make(connection, form, count)
        theirs = f"SELECT count(envelope_pgcrypto.pgp_sym_decrypt(v, '{PHRASE}')) FROM theirs"
        takes = _takes(connection, theirs, rows["pgp_sym"])
        before = interleaved(takes, settings.rounds)
        rate = [count / _convert(connection, form) for form, count in rows.items()][-1]
        after = interleaved(takes, settings.rounds)
    return [
        Measure("adopted_scan", "scan of old values of pgcrypto", "µs a row", before),
        Measure("adopted_after", "the same after the adoption", "µs a row", after),
        Measure("adopted_convert", "conversion of node's JSON, CPU", "rows/s", {"ours": Samples([rate])}, True),
    ]


def _takes(connection: Connection, theirs: str, rows: int) -> dict[str, Callable[[], float]]:
    queries = {"pgcrypto_pgp": theirs, "ours": "SELECT count(v) FROM old_pgp_sym"}
    return {peer: partial(_scan, connection, query, rows) for peer, query in queries.items()}


def _scan(connection: Connection, query: str, rows: int) -> float:
    return seconds(lambda: connection.execute(query).fetchall()) / rows * 1e6


def _make(connection: Connection, form: str, rows: int) -> None:
    kind = "bytea" if form == "pgp_sym" else "text"
    connection.execute(f"CREATE TABLE old_{form} (id int PRIMARY KEY, v {kind})")
    write = writer_of(form, KEYS[form])
    with connection.cursor() as cursor, cursor.copy(f"COPY old_{form} FROM STDIN") as copy:
        for number in range(rows):
            copy.write_row((number, write(f"value {number} of a person")))
    if form == "pgp_sym":
        connection.execute("CREATE TABLE theirs AS SELECT * FROM old_pgp_sym")
    connection.execute(f"ANALYZE old_{form}")
    connection.execute("SELECT envelope.import_legacy_key(%s, %s, %s)", (form, *SECRETS[form]))
    connection.execute(f"CALL envelope.adopt('old_{form}', 'v', '{form}', '{form}')")


def _convert(connection: Connection, form: str) -> float:
    """Returns the seconds of the processor that it took."""
    before = nanoseconds(connection.info.backend_pid)
    connection.execute(f"CALL envelope.convert('old_{form}')")
    return (nanoseconds(connection.info.backend_pid) - before) / 1e9
