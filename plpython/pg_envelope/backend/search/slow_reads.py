"""Carries out slow_reads(): the statements of pg_stat_statements that decrypt each row of a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pg_envelope import errors, slow_words
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.search import wording
from pg_envelope.backend.search.wording import Mention, Word
from pg_envelope.backend.sqltext import ident, literal
from pg_envelope.normalizers import EXACT

WHERE_IS_IT = """
SELECT n.nspname AS schema FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_stat_statements'"""
STATEMENTS = """
SELECT s.queryid, s.query, pg_catalog.sum(s.calls)::pg_catalog.int8 AS calls,
    pg_catalog.sum(s.total_exec_time) / 1000 AS seconds, pg_catalog.sum(s.rows)::pg_catalog.int8 AS rows
FROM {schema}.pg_stat_statements s
WHERE s.dbid = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
GROUP BY 1, 2 ORDER BY 4 DESC"""
COLUMNS = f"""
SELECT n.nspname AS schema, v.relname AS relation, c.column AS name,
    (SELECT min(s.search_column) FROM envelope.searches s WHERE s.relation = c.relation AND s.column = c.column
        AND s.state = 'ready' AND s.normalizer = {literal(EXACT)}) AS search,
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
    """A protected column, the search column that finds exactly its values, and the primary key of its table."""

    schema: str
    relation: str
    name: str
    search: str | None
    primary_key: tuple[str, ...]


def slow_reads(host: Host) -> list[Row]:
    """Returns the rows of envelope.slow_reads(), the longest total time first. Raises NotConfigured."""
    where = host.row(WHERE_IS_IT)
    if where is None:
        raise errors.NotConfigured(
            "pg_stat_statements is not installed in this database",
            hint="Set shared_preload_libraries = 'pg_stat_statements', restart, CREATE EXTENSION pg_stat_statements.",
        )
    columns = [ReadColumn(**{**row, "primary_key": tuple(row["primary_key"])}) for row in host.rows(COLUMNS)]
    return [
        {**run, "column": f"{column.relation}.{column.name}", "what": DOES[use.does], "instead": instead(column, use)}
        for run in host.once(STATEMENTS.format(schema=ident(where["schema"])))
        for column, use in found_in(run["query"], columns)
    ]


def found_in(statement: str, columns: Iterable[ReadColumn]) -> Iterator[tuple[ReadColumn, Mention]]:
    """Yields the protected columns by which a statement compares, sorts or groups, each once for each of these."""
    said = wording.words(statement)
    used = list(wording.uses(said))
    given = {use.name for use in used if use.is_given and use.does == wording.COMPARES}
    for column in columns:
        if not _names(said, column) or _finds_one_row(column, given):
            continue
        yield from ((column, use) for use in {use.does: use for use in used if use.name == column.name}.values())


def _names(said: Iterable[Word], column: ReadColumn) -> bool:
    return any(word.is_name and word.text == column.relation for word in said)


def _finds_one_row(column: ReadColumn, given: set[str]) -> bool:
    return bool(column.primary_key) and given.issuperset(column.primary_key)


def instead(column: ReadColumn, use: Mention) -> str:
    """Says what to write."""
    if use.does == wording.SORTS:
        return slow_words.SORT_LESS
    if use.does == wording.COMPARES and (not use.sign or (use.sign == "<>" and column.search is None)):
        return slow_words.NO_ORDER
    if column.search is None:
        return slow_words.add_first(column.schema, column.relation, column.name)
    return slow_words.compare(column.search)
