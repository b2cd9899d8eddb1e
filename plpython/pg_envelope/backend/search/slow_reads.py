"""Carries out slow_reads(): the statements of pg_stat_statements that decrypt each row of a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from pg_envelope import errors, slow_words
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.search import wording
from pg_envelope.backend.search.wording import Mention, Word
from pg_envelope.backend.sqltext import ident
from pg_envelope.normalizers import EXACT, kind_of
from pg_envelope.records import dataclass

WHERE_IS_IT = """
SELECT n.nspname AS schema FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_stat_statements'"""
STATEMENTS = """
SELECT s.queryid, s.query, pg_catalog.sum(s.calls)::pg_catalog.int8 AS calls,
    pg_catalog.sum(s.total_exec_time) / 1000 AS seconds, pg_catalog.sum(s.rows)::pg_catalog.int8 AS rows
FROM {schema}.pg_stat_statements s
WHERE s.dbid = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
GROUP BY 1, 2 ORDER BY 4 DESC"""
COLUMNS = """
SELECT n.nspname AS schema, v.relname AS relation, c.column AS name,
    (SELECT pg_catalog.jsonb_object_agg(s.search_column, s.normalizer ORDER BY s.search_column)::pg_catalog.text
        FROM envelope.searches s
        WHERE s.relation = c.relation AND s.column = c.column AND s.state = 'ready') AS searches,
    ARRAY(SELECT a.attname::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a
        ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
        WHERE i.indrelid = c.base_table AND i.indisprimary) AS primary_key
FROM envelope.columns c JOIN pg_catalog.pg_class v ON v.oid = c.relation
JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace ORDER BY 1, 2, 3"""
DOES = {
    wording.COMPARES: slow_words.DECRYPTS,
    wording.SORTS: slow_words.SORTS,
    wording.GROUPS: slow_words.GROUPS,
}


@dataclass(frozen=True)
class ReadColumn:
    """A protected column, the normalisers of its search columns by their names, and the primary key of its table."""

    schema: str
    relation: str
    name: str
    searches: Mapping[str, str]
    primary_key: tuple[str, ...]

    @property
    def search(self) -> str | None:
        """The search column that finds exactly its values."""
        return next((name for name, found in self.searches.items() if found == EXACT), None)

    def narrowing(self, sign: str) -> str | None:
        """Says what narrows a comparison that is none for equality, if the column has such a search."""
        if sign == wording.LIKE and (found := self._of("match")):
            return slow_words.by_pattern(found, self.name)
        if sign == wording.CONTAINS and (found := self._of("contains")):
            return slow_words.by_content(found, self.name)
        if sign in (wording.ORDER, wording.WITHIN) and (found := self._of("range")):
            return slow_words.by_range(found, self.name)
        return None

    def _of(self, kind: str) -> str | None:
        return next((name for name, normalizer in self.searches.items() if kind_of(normalizer) == kind), None)


def slow_reads(host: Host) -> list[Row]:
    """Returns the rows of envelope.slow_reads(), the longest total time first. Raises NotConfigured."""
    where = host.row(WHERE_IS_IT)
    if where is None:
        raise errors.NotConfigured(
            "pg_stat_statements is not installed in this database",
            hint="Set shared_preload_libraries = 'pg_stat_statements', restart, CREATE EXTENSION pg_stat_statements.",
        )
    columns = [_column(row) for row in host.rows(COLUMNS)]
    return [
        {**run, "column": f"{column.relation}.{column.name}", "what": DOES[use.does], "instead": instead(column, use)}
        for run in host.once(STATEMENTS.format(schema=ident(where["schema"])))
        for column, use in found_in(run["query"], columns)
    ]


def _column(row: Row) -> ReadColumn:
    searches = json.loads(row["searches"] or "{}")
    return ReadColumn(row["schema"], row["relation"], row["name"], searches, tuple(row["primary_key"]))


def found_in(statement: str, columns: Iterable[ReadColumn]) -> Iterator[tuple[ReadColumn, Mention]]:
    """Yields the protected columns by which a statement compares, sorts or groups, each once for each of these."""
    said = wording.words(statement)
    used = list(wording.uses(said))
    given = {use.name for use in used if use.is_given and use.does == wording.COMPARES}
    candidates = {use.name for use in used if use.sign in (wording.CONTAINS, wording.WITHIN)}
    columns = list(columns)
    for column in columns:
        if not _names(said, column) or _finds_one_row(column, given):
            continue
        if any(_is_narrowed(one, given, candidates) for one in columns if _is_of_one_table(one, column)):
            continue
        yield from ((column, use) for use in {use.does: use for use in used if use.name == column.name}.values())


def _names(said: Iterable[Word], column: ReadColumn) -> bool:
    return any(word.is_name and word.text == column.relation for word in said)


def _finds_one_row(column: ReadColumn, given: set[str]) -> bool:
    return bool(column.primary_key) and given.issuperset(column.primary_key)


def _is_of_one_table(one: ReadColumn, other: ReadColumn) -> bool:
    return (one.schema, one.relation) == (other.schema, other.relation)


def _is_narrowed(column: ReadColumn, given: set[str], candidates: set[str]) -> bool:
    """Tells whether one of its search columns finds the rows, so that few are decrypted."""
    return any(
        name in (given if kind_of(normalizer) == "exact" else candidates)
        for name, normalizer in column.searches.items()
    )


def instead(column: ReadColumn, use: Mention) -> str:
    """Says what to write."""
    if use.does == wording.SORTS:
        return slow_words.SORT_LESS
    if use.does == wording.COMPARES and use.sign != "=" and (use.sign != "<>" or column.search is None):
        return column.narrowing(use.sign) or slow_words.NO_ORDER
    if column.search is None:
        return slow_words.add_first(column.schema, column.relation, column.name)
    return slow_words.compare(column.search)
