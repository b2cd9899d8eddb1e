"""A search for candidates that is turned round would miss rows. The server refuses what it can; lint tells the rest."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from pg_envelope_client import statements
from pg_envelope_client.lint.protected import from_rows
from pg_envelope_client.lint.walk import found_in
from tests.fix_stack import Database

DOCS = Path(__file__).parents[3] / "docs/search.md"
OPTIONS = """{
    "born": {"search": {"range": {"bucket": "month"}}}, "notes": {"search": {"contains": {"force": true}}},
    "name": {"search": {"match": {"force": true}}}}"""
CANDIDATES = {
    "born": "born_range <@ daterange('2000-01-10', '2000-01-20')",
    "name": "name_match @> '%ada%'",
    "notes": """notes_contains @> '{"a": 1}'""",
}
REFUSED = [
    "NOT {}",
    "NOT ({} AND id > 0)",
    "NOT ({} OR id > 5)",
    "({}) = false",
    "false = ({})",
    "({}) <> true",
    "({}) IN (false)",
    "NOT (NOT (NOT {}))",
    "id > 0 AND NOT {}",
    "CASE WHEN NOT {} THEN true ELSE false END",
    "EXISTS (SELECT FROM t u WHERE u.id = t.id AND NOT {})",
]
# PostgreSQL evaluates these as they are.
SILENT = [
    "({}) IS NOT TRUE",
    "({}) IS FALSE",
    "({}) IS DISTINCT FROM true",
    "NOT coalesce({}, false)",
    "CASE WHEN {} THEN false ELSE true END",
    "({}) = ANY ('{{f}}')",
    "({}) <> (id > 0)",
]


@pytest.fixture
def table(db: Database) -> Database:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, born date, name text, notes jsonb)")
    db.sql("INSERT INTO t SELECT i, date '2000-01-01' + i, 'ada ' || i, '{\"a\": 1}' FROM generate_series(1, 40) i")
    db.sql("CALL envelope.protect('t', %s::jsonb)", OPTIONS)
    return db


def told(table: Database, condition: str) -> list[str]:
    cursor = table.admin.execute(statements.LINTED.sql)  # type: ignore[arg-type]
    names = [column.name for column in cursor.description or ()]
    protected = from_rows(dict(zip(names, row, strict=True)) for row in cursor)
    return [one.what for one in found_in(f"SELECT id FROM t WHERE {condition}", protected)]


def test_the_server_refuses_what_it_sees(table: Database) -> None:
    for candidate in CANDIDATES.values():
        for form in REFUSED:
            condition = form.format(candidate)
            with pytest.raises(psycopg.errors.FeatureNotSupported, match="would miss rows"):
                table.sql(f"SELECT id FROM t WHERE {condition}")
            assert any("misses rows" in what for what in told(table, condition)), condition


def test_lint_tells_of_what_the_server_cannot_refuse(table: Database) -> None:
    """Where the server learns to refuse one of these, the docs can say so."""
    for candidate in CANDIDATES.values():
        for form in SILENT:
            condition = form.format(candidate)
            table.sql(f"SELECT id FROM t WHERE {condition}")
            assert any("misses rows" in what for what in told(table, condition)), condition


def test_a_silent_form_misses_rows_indeed(table: Database) -> None:
    others = table.sql("SELECT id FROM t WHERE (born <@ daterange('2000-01-10', '2000-01-20')) IS NOT TRUE")
    assert set(table.sql(f"SELECT id FROM t WHERE ({CANDIDATES['born']}) IS NOT TRUE")) < set(others)


def test_the_docs_name_them() -> None:
    said = DOCS.read_text()
    assert all(words in said for words in ("`IS NOT TRUE`", "`IS FALSE`", "`IS DISTINCT FROM`", "`coalesce`", "`CASE`"))
