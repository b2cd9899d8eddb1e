"""ALTER TYPE and ALTER DOMAIN beside protected values: done as on a plain table, or refused before a value is lost."""

from __future__ import annotations

import functools
from collections.abc import Callable

import psycopg
import pytest

from stack.stack import Stack
from tests.fix_stack import Database, Fill

TYPES = """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE DOMAIN small AS int;
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN moods AS mood[];
CREATE TYPE span AS RANGE (subtype = mood);
CREATE TABLE t (id mood PRIMARY KEY, m mood, s small, p pair, l moods, r span, x text);
INSERT INTO t VALUES ('sad', 'sad', -5, '(1,secret)', '{sad}', '[sad,ok]', 'x');
"""
RETYPED = "ALTER TYPE pair ALTER ATTRIBUTE b TYPE int"
# What would make a value of these columns unreadable; a change of the value after which it goes well.
REFUSED = {
    "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'": (("m", "l", "r", "x"), "DELETE FROM t"),
    "ALTER TYPE pair ADD ATTRIBUTE c int": (("p",), "UPDATE t SET p = NULL"),
    "ALTER TYPE pair DROP ATTRIBUTE b": (("p",), "UPDATE t SET p = NULL"),
    RETYPED: (("p",), "UPDATE t SET p = '(1,2)'"),
    "ALTER DOMAIN small ADD CHECK (VALUE > 0)": (("s",), "UPDATE t SET s = 5"),
    "ALTER DOMAIN small ADD CHECK (VALUE > 0) NOT VALID": (("s",), "UPDATE t SET s = 5"),
}
CASES = [(change, column) for change, (columns, _) in REFUSED.items() for column in columns]
HARMLESS = (
    "ALTER TYPE mood ADD VALUE 'new' BEFORE 'sad'",
    "ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'",
    "ALTER TYPE mood RENAME TO moody",
    "ALTER TYPE pair RENAME ATTRIBUTE b TO z",
    "ALTER DOMAIN small ADD CHECK (VALUE < 0)",
    "ALTER DOMAIN small SET DEFAULT 7",
)


Protected = Callable[[str], Database]


@functools.cache
def fill(column: str) -> Fill:
    def make(db: Database) -> None:
        db.sql(TYPES)
        db.sql(f"""CALL envelope.protect('t', '["{column}"]')""")

    return make


@pytest.fixture
def protected(filled: Callable[[Fill], Database]) -> Protected:
    """Makes t with one protected column: a copy, for tests that destroy no key."""
    return lambda column: filled(fill(column))


@pytest.mark.parametrize(("change", "column"), CASES)
def test_a_value_that_would_be_lost_is_kept(
    protected: Protected, change: str, column: str, keeps_types_of_views: bool
) -> None:
    db = protected(column)
    before = db.sql("SELECT t::text FROM t")
    # As on a plain table, where that refuses it, too.
    refused = psycopg.errors.CheckViolation if "CHECK" in change else psycopg.errors.FeatureNotSupported
    with pytest.raises(refused) as error:
        db.sql(change)
    assert "secret" not in str(error.value)
    assert "sad" not in (error.value.diag.message_primary or "")
    assert db.sql("SELECT t::text FROM t") == before
    db.sql(REFUSED[change][1])
    if change == RETYPED and keeps_types_of_views:
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="on view t uses it"):
            db.sql(change)
    else:
        db.sql(change)
    db.sql("SELECT t::text FROM t")


@pytest.mark.parametrize("change", HARMLESS)
@pytest.mark.parametrize("column", ["m", "s", "p"])
def test_what_hurts_no_value_is_done(protected: Protected, change: str, column: str) -> None:
    db = protected(column)
    db.sql("UPDATE t SET r = 'empty'")
    db.sql(change)
    assert len(db.sql("SELECT t::text FROM t")) == 1
    db.sql("UPDATE t SET m = NULL, s = -6, p = '(3,d)'")


def test_no_value_comes_into_the_log(protected: Protected, stack: Stack) -> None:
    db = protected("p")
    db.sql("UPDATE t SET p = ROW(1, 'planted' || 'marker')::pair")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        db.sql("ALTER TYPE pair ADD ATTRIBUTE c int")
    assert "plantedmarker" not in stack.cluster.log.read_text()


def test_an_erased_value_stands_in_no_way(db: Database) -> None:
    db.sql(f"{TYPES}; ALTER TABLE t ALTER x SET NOT NULL")
    db.sql("""CALL envelope.protect('t', '["s"]', scope => 'subject', scope_column => 'x')""")
    db.sql("CALL envelope.shred('t', 'x', reason => 'test')")
    db.sql("ALTER DOMAIN small ADD CHECK (VALUE > 0)")


def test_types_of_no_protected_table_are_not_looked_at(protected: Protected) -> None:
    db = protected("x")
    db.sql("ALTER TYPE pair ADD ATTRIBUTE c int; ALTER DOMAIN small ADD CHECK (VALUE < 0)")
