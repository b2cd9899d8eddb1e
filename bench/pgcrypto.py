"""`python -m bench.pgcrypto`: envelope_pgcrypto beside pgcrypto itself, with literal keys and with keys by name."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from bench import report
from bench.figures import Measure, interleaved, seconds
from stack.stack import Stack

SERVER = {"fsync": "off", "autovacuum": "off", "jit": "off", "max_parallel_workers_per_gather": "0"}
SECRET = "0123456789abcdef0123456789abcdef"
ORIGINAL, OURS, NAMED, ONCE = "pgcrypto", "envelope_pgcrypto", "by name", "by name, once"
TARGETS = {OURS: 1.1, NAMED: 1.3, ONCE: 1.3}


@dataclass(frozen=True)
class Operation:
    """A call on a column; {s} stands for the schema with its dot, {k} for the key."""

    name: str
    call: str
    key_type: str = "text"
    slow: bool = False

    def sql(self, peer: str, rows: int) -> str:
        keys = {NAMED: "envelope.secret('bench')", ONCE: f"(SELECT envelope.secret('bench')::{self.key_type})"}
        schema = "original" if peer == ORIGINAL else OURS
        key = keys.get(peer, f"'{SECRET}'::{self.key_type}")
        return f"SELECT count({self.call.format(s=schema, k=key)}) FROM sample WHERE id <= {rows}"


OPERATIONS = (
    Operation("hmac", "{s}.hmac(email, {k}, 'sha256')"),
    Operation("encrypt aes", "{s}.encrypt(bytes, {k}, 'aes')", "bytea"),
    Operation("decrypt_iv aes", "{s}.decrypt_iv(aes, {k}, '\\x00', 'aes')", "bytea"),
    Operation("pgp_sym_encrypt", "{s}.pgp_sym_encrypt(email, {k})", slow=True),
    Operation("pgp_sym_decrypt", "{s}.pgp_sym_decrypt(pgp, {k})", slow=True),
    Operation("pgp_sym_decrypt, s2k-mode=1", "{s}.pgp_sym_decrypt(pgp_fast, {k})", slow=True),
)


def make(connection: psycopg.Connection[Any], rows: int) -> None:
    """Makes the sample table, and a secret that is also the literal key, so that both have the same length and work."""
    connection.execute("CREATE SCHEMA original")
    connection.execute("CREATE EXTENSION pgcrypto SCHEMA original")
    connection.execute("SELECT envelope.import_secret('bench', %s::text)", [SECRET])
    connection.execute(
        "CREATE TABLE sample AS SELECT id, email, email::bytea AS bytes,"
        f" original.encrypt_iv(email::bytea, '{SECRET}', '\\x00', 'aes') AS aes,"
        f" CASE WHEN id <= {slow(rows)} THEN original.pgp_sym_encrypt(email, '{SECRET}') END AS pgp,"
        f" CASE WHEN id <= {slow(rows)} THEN original.pgp_sym_encrypt(email, '{SECRET}', 's2k-mode=1') END AS pgp_fast"
        " FROM (SELECT id, 'user' || id || '@example.org' AS email FROM generate_series(1, %s) AS id) AS made",
        [rows],
    )
    connection.execute("VACUUM ANALYZE sample")


def slow(rows: int) -> int:
    """OpenPGP makes a key of its passphrase for each value, so a part of the rows is enough."""
    return max(rows // 20, 1)


def measure(connection: psycopg.Connection[Any], operation: Operation, rows: int, rounds: int) -> Measure:
    """Returns microseconds per row of the four ways."""
    wanted = slow(rows) if operation.slow else rows
    takes = {
        peer: partial(_take, connection, operation.sql(peer, wanted), wanted) for peer in (ORIGINAL, OURS, NAMED, ONCE)
    }
    for take in takes.values():
        take()
    return Measure(operation.name, operation.name, "µs/row", interleaved(takes, rounds))


def _take(connection: psycopg.Connection[Any], statement: str, rows: int) -> float:
    return seconds(lambda: connection.execute(statement, prepare=False).fetchall()) / rows * 1e6


def show(measures: list[Measure], console: Console) -> None:
    table = Table("µs/row, median", ORIGINAL, OURS, NAMED, ONCE)
    for found in measures:
        cells = [f"{found.peers[ORIGINAL].figure:.2f}"]
        for peer in (OURS, NAMED, ONCE):
            ratio = found.ratio(peer, ORIGINAL)
            assert ratio is not None
            mark = "" if ratio <= TARGETS[peer] else " !"
            cells.append(f"{found.peers[peer].figure:.2f}  ×{ratio:.2f} ±{found.peers[peer].spread:.0%}{mark}")
        table.add_row(found.title, *cells)
    console.print(table)
    console.print(f"! above the aim: {', '.join(f'{peer} ×{aim}' for peer, aim in TARGETS.items())}", style="dim")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.pgcrypto", description=__doc__)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pg_envelope-bench-") as place:
        stack = Stack(Path(place) / "stack", postgres_settings=SERVER)
        try:
            stack.up()
            with stack.connect() as connection:
                make(connection, given.rows)
                measures = [measure(connection, operation, given.rows, given.rounds) for operation in OPERATIONS]
        finally:
            stack.down()
    show(measures, report.console())


if __name__ == "__main__":
    main()
