"""Describes what is protected: tables, their protected columns, and the search columns of those."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

EXACT, MATCH, HAVING = "exact", "match", "contains"
# Begins the normaliser of a search for ranges.
RANGE = "range-"
# Begins that of a search of jsonb for some paths.
OF_PATHS = "contains-"


@dataclass(frozen=True)
class Search:
    """A search column. `normalizer` is without its version; columns of one `key` can be joined."""

    name: str
    normalizer: str
    key: str

    @property
    def kind(self) -> str:
        """MATCH, HAVING or RANGE for a search that finds candidates, and EXACT for one by equal tokens."""
        if self.normalizer.startswith(RANGE):
            return RANGE
        if self.normalizer == HAVING or self.normalizer.startswith(OF_PATHS):
            return HAVING
        return MATCH if self.normalizer == MATCH else EXACT

    @property
    def is_equality(self) -> bool:
        return self.kind == EXACT


@dataclass(frozen=True)
class KnownTable:
    """A protected table, with the searches of each protected column."""

    schema: str
    name: str
    primary_key: frozenset[str]
    columns: Mapping[str, tuple[Search, ...]]

    def exact(self, column: str) -> Search | None:
        """Returns the search that takes for equal what the column's own `=` does."""
        return next((one for one in self.columns[column] if one.normalizer == EXACT), None)

    def looser(self, column: str) -> Search | None:
        """Returns a search that takes more values for equal than `=`, such as one without regard to case."""
        every = self.columns[column]
        return next((one for one in every if one.is_equality and one.normalizer != EXACT), None)

    def match(self, column: str) -> Search | None:
        """Returns the search that finds parts of texts."""
        return next((one for one in self.columns[column] if one.kind == MATCH), None)

    def having(self, column: str) -> Search | None:
        """Returns the search that finds jsonb by what it contains."""
        return next((one for one in self.columns[column] if one.kind == HAVING), None)

    def range(self, column: str) -> Search | None:
        """Returns the search that finds ranges of values."""
        return next((one for one in self.columns[column] if one.kind == RANGE), None)

    def source(self, name: str) -> str:
        """Returns the column of a search column."""
        return next(column for column, searches in self.columns.items() if any(one.name == name for one in searches))

    def search(self, name: str) -> Search | None:
        return next((one for searches in self.columns.values() for one in searches if one.name == name), None)


class KnownTables:
    """Finds tables by the names that statements give them."""

    def __init__(self, tables: Iterable[KnownTable]) -> None:
        self.tables = tuple(tables)

    def find(self, schema: str | None, name: str) -> KnownTable | None:
        """Returns the table. A name without schema finds a table of any schema, because no search_path is known."""
        return next((one for one in self.tables if one.name == name and schema in (None, one.schema)), None)


def from_rows(rows: Iterable[Mapping[str, Any]]) -> KnownTables:
    """Makes it of the rows of statements.LINTED: one for each protected column and each of its searches."""
    tables: dict[tuple[str, str], dict[str, tuple[Search, ...]]] = {}
    keys: dict[tuple[str, str], frozenset[str]] = {}
    for row in rows:
        place = row["schema"], row["relation"]
        columns = tables.setdefault(place, {})
        keys[place] = frozenset(row["primary_key"] or ())
        columns[row["column"]] = columns.get(row["column"], ()) + _searches(row)
    return KnownTables(KnownTable(*place, keys[place], columns) for place, columns in tables.items())


def _searches(row: Mapping[str, Any]) -> tuple[Search, ...]:
    if row["search_column"] is None:
        return ()
    return (Search(row["search_column"], row["normalizer"].split("/")[0], row["search_key"]),)
