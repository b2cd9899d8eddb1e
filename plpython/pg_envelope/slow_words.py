"""Words for statements that decrypt each row of a table: `pg-envelope lint` and envelope.slow_reads() say the same."""

from __future__ import annotations

import re

PLAIN = re.compile(r"[a-z_][a-z0-9_$]*\Z")
DECRYPTS = "decrypts each row to compare"
SORTS = "decrypts each row to sort"
GROUPS = "decrypts each row to find equal values"
NO_ORDER = "Narrow the rows by other columns first. Tokens have no order and no parts."
SORT_LESS = "Sort by an open column, or narrow the rows first."


def compare(search_column: str) -> str:
    """Says which search column answers a comparison."""
    return f"Compare {quoted(search_column)}."


def add_first(schema: str, table: str, column: str) -> str:
    """Names the command that gives a column a search column."""
    return f"First: pg-envelope search add {schema}.{table} {column}"


def quoted(name: str) -> str:
    """Returns a name as people write it: quoted where SQL needs that."""
    return name if PLAIN.match(name) else '"' + name.replace('"', '""') + '"'
