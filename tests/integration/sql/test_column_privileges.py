"""Privileges on single columns of a protected table, granted after protect()."""

from __future__ import annotations

import psycopg
import pytest

from tests.fix_stack import Database
from tests.integration.faults.fix_damage import told

HINT = "Grant the privilege on the whole table, or on a view over it that shows some of its columns."


@pytest.fixture
def secured(db: Database) -> Database:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, n int, s text)")
    db.sql("ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY everybody ON t USING (true)")
    db.sql("INSERT INTO t VALUES (1, 1, 's')")
    db.sql("CALL envelope.protect('t', '[\"s\"]')")
    return db


@pytest.mark.parametrize("privilege", ["SELECT (id, n)", "SELECT (s)", "INSERT (id, s)", "UPDATE (n)"])
def test_under_row_level_security_the_grantor_is_warned(secured: Database, privilege: str) -> None:
    """The view runs as its caller, so that the privilege alone opens nothing."""
    grant = f"GRANT {privilege} ON t TO alice"
    assert [hint for level, _, hint in told(secured.connect(), grant) if level == "WARNING"] == [HINT]
    assert told(secured.connect(), grant) == [], "the same once more is no news"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        secured.sql("SELECT id FROM t", user="alice")
    secured.sql("GRANT SELECT ON t TO alice")
    assert secured.sql("SELECT id, s FROM t", user="alice") == [(1, "s")]


def test_row_level_security_that_comes_later_warns_too(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, n int, s text); INSERT INTO t VALUES (1, 1, 's')")
    db.sql("CALL envelope.protect('t', '[\"s\"]')")
    assert told(db.connect(), "GRANT SELECT (id, s) ON t TO alice") == []
    assert db.sql("SELECT id, s FROM t", user="alice") == [(1, "s")]
    found = told(db.connect(), "ALTER TABLE t_encrypted ENABLE ROW LEVEL SECURITY")
    assert [hint for level, _, hint in found if level == "WARNING"] == [HINT]


def test_what_the_information_schema_says_of_columns(db: Database) -> None:
    """PostgreSQL answers for the columns without looking at INSTEAD OF triggers; for the view it looks at them."""
    db.sql("CREATE TABLE t (id int PRIMARY KEY, n int, s text)")
    db.sql("CALL envelope.protect('t', '[\"s\"]')")
    columns = "SELECT column_name, is_updatable FROM information_schema.columns WHERE table_name = 't' ORDER BY 1"
    assert db.sql(columns) == [("id", "YES"), ("n", "YES"), ("s", "NO")]
    view = "SELECT is_trigger_updatable, is_trigger_insertable_into FROM information_schema.views"
    assert db.sql(f"{view} WHERE table_name = 't'") == [("YES", "YES")]
