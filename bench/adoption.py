"""Measures an adoption: reads of old values beside pgcrypto and beside the libraries themselves, the conversion, and
reads afterwards.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench.figures import Measure, Samples, interleaved, seconds
from bench.points import nanoseconds
from bench.settings import Settings
from pg_envelope.foreign.keys import parse
from pg_envelope.foreign.writers import writer_of
from stack.stack import Stack

# pgcrypto takes a fifth of a millisecond for a value.
MOST_ROWS = {"pgp_sym": 2000, "fernet": 20_000, "node_json": 50_000}
PHRASE = "correct horse"
SECRETS = {
    "pgp_sym": ("text", PHRASE.encode()),
    "fernet": ("fernet", base64.urlsafe_b64encode(b"Z" * 32)),
    "node_json": ("hex", b"5a" * 32),
}
KEYS = {form: parse(*secret) for form, secret in SECRETS.items()}
Connection = psycopg.Connection[Any]


def measure(stack: Stack, settings: Settings) -> list[Measure]:
    with stack.connect() as connection:
        rows = {form: min(settings.rows, most) for form, most in MOST_ROWS.items()}
        for form, count in rows.items():
            _make(connection, form, count)
        theirs = f"SELECT count(envelope_pgcrypto.pgp_sym_decrypt(v, '{PHRASE}')) FROM theirs"
        takes = _takes(connection, theirs, rows["pgp_sym"])
        before = interleaved(takes, settings.rounds)
        libraries = [_beside_library(connection, form, rows[form], settings.rounds) for form in LIBRARIES]
        rate = [count / _convert(connection, form) for form, count in rows.items()][-1]
        after = interleaved(takes, settings.rounds)
        converted = _converted(connection, rows["node_json"], settings.rounds)
    return [
        Measure("adopted_scan", "scan of old values of pgcrypto", "µs a row", before),
        *libraries,
        Measure("adopted_after", "the same after the adoption", "µs a row", after),
        Measure("adopted_converted", "converted values amid an adoption, CPU", "µs a row", converted),
        Measure("adopted_convert", "conversion of node's JSON, CPU", "rows/s", {"ours": Samples([rate])}, True),
    ]


def _of_fernet() -> Callable[[str], str]:
    fernet = Fernet(SECRETS["fernet"][1])
    return lambda value: fernet.decrypt(value).decode()


def _of_node() -> Callable[[str], str]:
    """Returns what an application in Python does with such an object."""
    aead, decode = AESGCM(b"Z" * 32), base64.b64decode

    def opened(value: str) -> str:
        told = json.loads(value)
        content = decode(told["ciphertext"]) + decode(told["authTag"])
        return aead.decrypt(decode(told["iv"]), content, None).decode()

    return opened


LIBRARIES = {"fernet": _of_fernet, "node_json": _of_node}


def _beside_library(connection: Connection, form: str, rows: int, rounds: int) -> Measure:
    """Measures processor time alone, because an application decrypts in a process of its own."""
    values = [value for (value,) in connection.execute(f"SELECT v_legacy FROM old_{form}_encrypted")]
    takes = {
        "library": partial(_in_library, LIBRARIES[form](), values),
        "ours": partial(_in_server, connection, f"SELECT count(v) FROM old_{form}", rows),
    }
    title = f"old values of {form}, CPU; by its library alone"
    return Measure(f"adopted_{form}", title, "µs a row", interleaved(takes, max(rounds, 8)))


def _in_library(opened: Callable[[str], str], values: list[str]) -> float:
    began = time.process_time()
    for value in values:
        opened(value)
    return (time.process_time() - began) / len(values) * 1e6


def _in_server(connection: Connection, query: str, rows: int) -> float:
    began = nanoseconds(connection.info.backend_pid)
    connection.execute(query).fetchall()
    return (nanoseconds(connection.info.backend_pid) - began) / rows / 1e3


def _takes(connection: Connection, theirs: str, rows: int) -> dict[str, Callable[[], float]]:
    queries = {"pgcrypto_pgp": theirs, "ours": "SELECT count(v) FROM old_pgp_sym"}
    return {peer: partial(_scan, connection, query, rows) for peer, query in queries.items()}


def _scan(connection: Connection, query: str, rows: int) -> float:
    return seconds(lambda: connection.execute(query).fetchall()) / rows * 1e6


def _converted(connection: Connection, rows: int, rounds: int) -> dict[str, Samples]:
    """Measures the view that still reads both columns, beside a protected table with the same values."""
    connection.execute("CREATE TABLE sealed (id int PRIMARY KEY, v text)")
    connection.execute("INSERT INTO sealed SELECT id, v FROM old_node_json")
    connection.execute("CALL envelope.protect('sealed', '[\"v\"]')")
    connection.execute("VACUUM ANALYZE sealed_encrypted, old_node_json_encrypted")
    tables = {"ours": "sealed", "adopted": "old_node_json"}
    takes = {
        peer: partial(_in_server, connection, f"SELECT count(v) FROM {name}", rows) for peer, name in tables.items()
    }
    return interleaved(takes, max(rounds, 8))


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
