"""protect() on tables with very many columns: its work grows with their number, not with its square."""

from __future__ import annotations

import json

import pytest

from tests.fix_stack import Database

CALLS = "SELECT coalesce(sum(calls), 0) FROM pg_stat_user_functions WHERE schemaname = 'envelope_private'"


def make_wide(db: Database, name: str, count: int, definition: str = "text") -> str:
    """A table with `count` columns to protect; the columns as protect() takes them."""
    columns = ", ".join(f"c{i} {definition.replace('COLUMN', f'c{i}')}" for i in range(count))
    db.sql(f"CREATE TABLE {name} (id int PRIMARY KEY, {columns}); ALTER TABLE {name} OWNER TO owner")
    return json.dumps([f"c{i}" for i in range(count)])


def calls_of_protect(db: Database, name: str, count: int) -> int:
    """How many functions of the catalog one protect() runs, its commit included."""
    wanted = make_wide(db, name, count)
    with db.connect() as connection:
        connection.execute("SET track_functions = 'all'")
        connection.execute("CALL envelope.protect(%s::regclass, %s::jsonb)", [name, wanted])
        connection.execute("SELECT pg_stat_force_next_flush()")
    before = db.one(CALLS)
    db.sql("SELECT pg_stat_reset()")
    return int(before)


FOLLOWED = "SELECT coalesce(sum(calls), 0) FROM pg_stat_user_functions WHERE funcname = 'follow'"
THERE_AND_BACK = (
    "CALL envelope.protect('{0}', '{1}')",
    "ALTER VIEW {0} ALTER c0 SET DEFAULT NULL, ALTER c1 SET DEFAULT NULL",
    "CALL envelope.refresh('{0}')",
    "CALL envelope.unprotect('{0}')",
)


def follows(db: Database, name: str, wanted: str) -> int:
    """How often both relations are read from end to end because a command was sent about them."""
    db.sql("SELECT pg_stat_reset()")
    for statement in THERE_AND_BACK:
        db.sql(statement.format(name, wanted))
    db.sql("SELECT pg_stat_force_next_flush()")
    return int(db.one(FOLLOWED))


def test_no_column_is_altered_by_itself(db: Database) -> None:
    db.sql("SET track_functions = 'all'")
    for number, definition in enumerate(
        ("text", "text DEFAULT 'x'", "text COMPRESSION pglz", "int CHECK (COLUMN > 0)")
    ):
        few = follows(db, f"few{number}", make_wide(db, f"few{number}", 5, definition))
        many = follows(db, f"many{number}", make_wide(db, f"many{number}", 20, definition))
        assert many == few > 0, definition


def test_twice_as_many_columns_are_at_most_twice_the_work(db: Database) -> None:
    few, many = calls_of_protect(db, "few", 30), calls_of_protect(db, "many", 60)
    assert few > 30
    assert many <= 2 * few + 10


@pytest.mark.parametrize("definition", ["text", "int DEFAULT 7", "date CHECK (COLUMN > '1970-01-01')"])
def test_a_wide_table_goes_there_and_back(db: Database, definition: str) -> None:
    # More than the 100 arguments that a function of PostgreSQL can have.
    wanted = make_wide(db, "wide", 120, definition)
    db.sql("CALL envelope.protect('wide', %s::jsonb)", wanted)
    owner = db.connect("owner")
    owner.execute("INSERT INTO wide (id, c0, c119) VALUES (1, NULL, NULL)")
    owner.execute("UPDATE wide SET id = 2")
    found = owner.execute("SELECT count(*) FROM wide WHERE c100 IS NOT NULL").fetchone()
    assert found == ("DEFAULT" in definition,)
    db.sql("CALL envelope.refresh('wide')")
    db.sql("CALL envelope.unprotect('wide')")
    assert db.one("SELECT count(*) FROM wide WHERE c100 IS NOT NULL") == ("DEFAULT" in definition)


def test_nearly_as_many_as_postgresql_knows(db: Database, keeps_types_of_views: bool) -> None:
    """The version that keeps them changes the types of 1500 columns in half an hour, also of a plain table."""
    count = 250 if keeps_types_of_views else 1500
    wanted = make_wide(db, "wide", count)
    db.sql("CALL envelope.protect('wide', %s::jsonb)", wanted)
    owner = db.connect("owner")
    owner.execute(f"INSERT INTO wide (id, c0, c{count - 1}) VALUES (1, 'first', 'last')")
    owner.execute("UPDATE wide SET c200 = 'middle'")
    found = owner.execute(f"SELECT c0, c200, c{count - 1} FROM wide").fetchall()
    assert found == [("first", "middle", "last")]
    assert db.one("SELECT count(*) FROM envelope.columns") == count
