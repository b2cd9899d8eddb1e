"""A protected table in another schema, or in one with another name: what docs/protected-tables.md says to do."""

from __future__ import annotations

import psycopg
import pytest

from tests.fix_stack import Database


@pytest.fixture
def table(db: Database) -> Database:
    db.sql("CREATE SCHEMA s; CREATE TABLE t (id int PRIMARY KEY, v text CHECK (length(v) < 9))")
    db.sql("INSERT INTO t VALUES (1, 'a')")
    db.sql("""CALL envelope.protect('t', '["v"]')""")
    return db


def works(db: Database, name: str) -> bool:
    db.sql(f"INSERT INTO {name} VALUES (2, 'b'); UPDATE {name} SET v = v || 'x'; DELETE FROM {name} WHERE id = 1")
    return db.sql(f"SELECT id, v FROM {name}") == [(2, "bx")]


def test_into_another_schema(table: Database) -> None:
    table.sql("ALTER TABLE t SET SCHEMA s")
    assert works(table, "s.t")


def test_the_view_alone_into_another_schema(table: Database) -> None:
    table.sql("ALTER VIEW t SET SCHEMA s")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        table.sql("CALL envelope.refresh('s.t')")
    table.sql("ALTER TABLE t_encrypted SET SCHEMA s; CALL envelope.refresh('s.t')")
    assert works(table, "s.t")


def test_another_name_of_its_schema(table: Database) -> None:
    table.sql("ALTER TABLE t SET SCHEMA s")
    table.sql("ALTER SCHEMA s RENAME TO other")
    assert table.sql("SELECT v FROM other.t") == [("a",)]
    with pytest.raises(psycopg.errors.UndefinedTable):
        table.sql("INSERT INTO other.t VALUES (2, 'b')")
    assert table.one("SELECT state FROM envelope.status() WHERE check_name = 'writes'") == "failed"
    table.sql("CALL envelope.refresh('other.t')")
    assert works(table, "other.t")
