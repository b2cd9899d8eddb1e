"""Words for statements that decrypt each row of a table: `pg-envelope lint` and envelope.slow_reads() say the same."""

from __future__ import annotations

import re

PLAIN = re.compile(r"[a-z_][a-z0-9_$]*\Z")
DECRYPTS = "decrypts each row to compare"
SORTS = "decrypts each row to sort"
GROUPS = "decrypts each row to find equal values"
NO_ORDER = "Narrow the rows by other columns first. Tokens have no order and no parts."
MISSES = "misses rows: it finds candidates, and not all others are answers"
CHANGES = "changes candidates, too, which are no answers"
NO_INDEX = "compares each row without the index"
SORT_LESS = "Sort by an open column, or narrow the rows first."


def compare(search_column: str) -> str:
    """Says which search column answers a comparison."""
    return f"Compare {quoted(search_column)}."


def by_pattern(search_column: str, column: str) -> str:
    """Says how a match search narrows LIKE and ILIKE."""
    return f"Write {quoted(search_column)} @> ... AND {quoted(column)} LIKE ..., with the same pattern."


def by_content(search_column: str, column: str) -> str:
    """Says how a contains search narrows @> of jsonb."""
    return f"Write {quoted(search_column)} @> ... AND {quoted(column)} @> ..., with the same value."


def by_range(search_column: str, column: str) -> str:
    """Says how a range search narrows comparisons of order."""
    return f"Write {quoted(search_column)} <@ a range, AND the comparison of {quoted(column)} as it is."


def compare_too(column: str) -> str:
    """Says what decides which candidates are answers."""
    return f"Add the condition on {quoted(column)} itself, joined by AND."


def negate(column: str) -> str:
    """Says what to write in the place of a negated search for candidates."""
    return f"Write NOT before a condition on {quoted(column)} itself."


def add_first(schema: str, table: str, column: str) -> str:
    """Names the command that gives a column a search column."""
    return f"First: pg-envelope search add {schema}.{table} {column}"


def quoted(name: str) -> str:
    """Returns a name as people write it: quoted where SQL needs that."""
    return name if PLAIN.match(name) else '"' + name.replace('"', '""') + '"'
