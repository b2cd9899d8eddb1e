"""The event triggers leave the package's own commands alone, and no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database, Fill

BUSY = "SELECT envelope_internal.changes_tables()"
WATCH = """
CREATE TABLE seen (tag text, own bool);
CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO public.seen VALUES (TG_TAG, envelope_internal.changes_tables()); END $$;
CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION watch()"""
NAMES = """
SELECT r.relname, string_agg(a.attname, ' ' ORDER BY a.attnum) FROM pg_class r JOIN pg_attribute a ON a.attrelid = r.oid
WHERE r.relname IN ('t', 't_encrypted') AND a.attnum > 0 AND NOT a.attisdropped GROUP BY 1 ORDER BY 1"""
# Who runs a command: its context has the words by which the event triggers know where to ask.
RUNS = {
    "plpython": 'DO $do$ plpy.execute("{}") $do$ LANGUAGE plpython3u',
    "plpgsql": "DO $do$ BEGIN EXECUTE $text${}$text$; END $do$",
    "lying comment": 'DO $do$ BEGIN EXECUTE $text$/* PL/Python procedure "protect" */ {}$text$; END $do$',
    "client": '/* PL/Python procedure "protect" */ {}',
}
# What a session has done before, which decides what of the package it has loaded.
BEFORE = {
    "nothing loaded": "SELECT",
    "has read": "SELECT v FROM t",
    "has protected": "CREATE TABLE u (id int PRIMARY KEY, v text); CALL envelope.protect('u', '[\"v\"]')",
    "has failed": "DO $$ BEGIN CALL envelope.protect('t', '[\"v\"]'); EXCEPTION WHEN OTHERS THEN NULL; END $$",
}


def fill(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')")
    db.sql("""CALL envelope.protect('t', '["v"]')""")


@pytest.fixture
def table(filled: Callable[[Fill], Database]) -> Database:
    """These tests destroy no key, so a copy will do."""
    return filled(fill)


def test_the_package_says_when_it_changes_a_table(table: Database) -> None:
    table.sql(WATCH)
    table.sql("CREATE TABLE u (id int PRIMARY KEY, v text)")
    table.sql("""CALL envelope.protect('u', '["v"]')""")
    table.sql("COMMENT ON TABLE seen IS 'x'")
    seen = table.sql("SELECT tag, own FROM seen WHERE tag NOT IN ('CREATE EVENT TRIGGER', 'CREATE FUNCTION')")
    assert seen[0] == ("CREATE TABLE", False)
    assert {own for tag, own in seen if tag in ("CREATE TRIGGER", "ALTER TABLE", "CREATE VIEW")} == {True}
    assert seen[-1] == ("COMMENT", False)
    assert table.sql(BUSY) == [(False,)]


def test_an_error_ends_what_the_package_says(table: Database) -> None:
    with pytest.raises(psycopg.Error, match="protected already"):
        table.sql("""CALL envelope.protect('t', '["v"]')""")
    assert table.sql(BUSY) == [(False,)]


def test_whoever_asks_loads_nothing(table: Database) -> None:
    asks: psycopg.Connection[Any] = table.connect("alice")
    assert asks.execute(BUSY).fetchone() == (False,)


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_a_command_of_others_is_followed(table: Database, run: str, before: str) -> None:
    session = table.connect()
    session.execute(before)
    session.execute(run.format("ALTER TABLE t RENAME v TO w"))
    session.execute(run.format("ALTER TABLE t ADD x int DEFAULT 3"))
    assert session.execute(NAMES).fetchall() == [("t", "id w x"), ("t_encrypted", "id w x")]
    assert session.execute("SELECT w, x FROM t").fetchall() == [("a", 3)]
