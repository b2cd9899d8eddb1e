"""Names and literals in generated SQL: always quoted, whatever they hold."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

NAME_BYTES = 63
NIL_UUID = "00000000-0000-0000-0000-000000000000"
# Stands for the row in an expression that of_any_row() finishes.
ROW = '"pg_envelope row"'


def ident(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def qualified(schema: str, name: str) -> str:
    return f"{ident(schema)}.{ident(name)}"


def literal(text: str) -> str:
    """A string literal that does not depend on standard_conforming_strings."""
    doubled = text.replace("'", "''")
    return f"'{doubled}'" if "\\" not in text else "E'" + doubled.replace("\\", "\\\\") + "'"


def dollar(body: str, word: str = "pg_envelope") -> str:
    """A dollar-quoted string whose tag does not occur in the body."""
    while f"${word}$" in body:
        word += "_"
    return f"${word}${body}${word}$"


def of_any_row(expression: str) -> str:
    """Returns an expression over ROW that names columns alone: ALTER TABLE reads it anew for each partition, which has
    another name than the whole table.
    """
    return expression.replace(f"{ROW}.", "")


def commas(parts: Iterable[str]) -> str:
    return ", ".join(parts)


def constraint_name(table: str, column: str, label: str) -> str:
    """Returns the name that PostgreSQL gives a constraint: table_column_label, of which the longer parts are cut."""
    room = NAME_BYTES - len(label) - 2
    lengths = [len(table.encode()), len(column.encode())]
    while sum(lengths) > room:
        lengths[0 if lengths[0] > lengths[1] else 1] -= 1
    parts = (
        name.encode()[:length].decode(errors="ignore") for name, length in zip((table, column), lengths, strict=True)
    )
    return "_".join([*parts, label])


def derived_name(name: str, suffix: str) -> str:
    """name + suffix; over 63 bytes, the name is cut between characters, and a mark of the whole name is put in."""
    if len((name + suffix).encode()) <= NAME_BYTES:
        return name + suffix
    mark = f"_{zlib.crc32(name.encode()):08x}{suffix}"
    kept = name
    while len((kept + mark).encode()) > NAME_BYTES:
        kept = kept[:-1]
    return kept + mark
