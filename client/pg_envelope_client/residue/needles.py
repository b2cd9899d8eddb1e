"""Takes samples of a protected table's values, to look for them elsewhere."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from psycopg import sql

from pg_envelope_client.problems import Problem
from pg_envelope_client.residue import queries
from pg_envelope_client.statements import Query

if TYPE_CHECKING:
    from pg_envelope_client.database import ServerSession

# Shorter values occur by chance, and so do those of few different bytes, such as 000000.
SHORTEST, LONGEST, FEWEST_LETTERS = 6, 200, 4
# PostgreSQL compresses rows above about this size.
COMPRESSED = 2000
# So many rows are drawn for each value that is wanted, since columns have NULLs and short values.
SPARE = 20
STORED_AS_TEXT = {"text", "character varying", "character", "json", "citext"}


@dataclass
class Needles:
    """Values with their columns. `short` counts those that are not looked for. `long` counts those that TOAST may
    hold compressed. `binary` are columns of whose type the
    text is in no data file, so that only logs and statements can show it. `control` must be found, `absent` must not.
    """

    values: dict[bytes, str] = field(default_factory=dict)
    short: Counter[str] = field(default_factory=Counter)
    long: Counter[str] = field(default_factory=Counter)
    binary: list[str] = field(default_factory=list)
    control: bytes = field(default_factory=lambda: _marker())
    absent: bytes = field(default_factory=lambda: _marker())

    def add(self, column: str, values: Iterable[str]) -> None:
        for value in values:
            whole = value.encode()
            needle = whole[:LONGEST]
            if len(whole) > COMPRESSED:
                self.long[column] += 1
            if len(needle) < SHORTEST or len(set(needle)) < FEWEST_LETTERS or b"\n" in needle:
                self.short[column] += 1
            else:
                self.values.setdefault(needle, column)

    @property
    def all(self) -> list[bytes]:
        return [*self.values, self.control, self.absent]


def _marker() -> bytes:
    return f"pg-envelope-{secrets.token_hex(16)}".encode()


def sampled(server: ServerSession, table: str, most: int) -> Needles:
    """Returns up to `most` values of each protected column of a table. The ledger of reads has these reads.

    Raises Problem for a table without protected columns, and for one whose owner's code would run.
    """
    server.run(queries.BEGIN)
    found, columns = Needles(), server.rows(queries.columns_of(table))
    if not columns:
        raise Problem(f"{table} has no protected columns", hint="pg-envelope columns lists those that there are.")
    server.run(queries.PINNED)
    if not server.value(queries.harmless(columns[0]["oid"])):
        raise Problem(
            f"a read of {table} could run code of others with your rights, or others are changing it",
            hint="docs/access.md says what counts as code of others.",
        )
    for column in columns:
        query = _sample(column["schema"], column["relation"], column["name"], most, float(column["rows"]))
        found.add(column["name"], (row["value"] for row in server.rows(query)))
        if column["type"].split("(")[0] not in STORED_AS_TEXT:
            found.binary.append(column["name"])
    server.run(queries.COMMIT)
    return found


def _sample(schema: str, relation: str, column: str, most: int, rows: float) -> Query:
    """Sorts nothing: a sort could write values into a temporary file."""
    name = sql.Identifier(column)
    text = sql.SQL(
        "SELECT {name}::pg_catalog.text AS value FROM {table} WHERE {name} IS NOT NULL AND random() < {share}"
        " LIMIT {most}"
    )
    share = sql.Literal(min(1.0, SPARE * most / max(rows, 1.0)))
    composed = text.format(name=name, table=sql.Identifier(schema, relation), share=share, most=sql.Literal(most))
    return Query(composed.as_string().replace("%", "%%"))
