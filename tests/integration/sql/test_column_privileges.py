"""Privileges on single columns of a protected table, granted after protect()."""

from __future__ import annotations

import psycopg
import pytest

from tests.fix_stack import Database


@pytest.fixture
def secured(db: Database) -> Database:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, n int, s text)")
    db.sql("ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY everybody ON t USING (true)")
    db.sql("INSERT INTO t VALUES (1, 1, 's')")
    db.sql("CALL envelope.protect('t', '[\"s\"]')")
    return db


@pytest.mark.parametrize("privilege", ["SELECT (id, n)", "SELECT (s)", "INSERT (id, s)", "UPDATE (n)"])
def test_under_row_level_security_they_are_refused(secured: Database, privilege: str) -> None:
    """The view runs as its caller: the privilege would be there, and every statement that uses it denied."""
    with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
        secured.sql(f"GRANT {privilege} ON t TO alice")
    assert "a view over it" in (caught.value.diag.message_hint or "")
    assert secured.sql("SELECT * FROM information_schema.column_privileges WHERE grantee = 'alice'") == []
    secured.sql("GRANT SELECT ON t TO alice")
    assert secured.sql("SELECT id, s FROM t", user="alice") == [(1, "s")]
    secured.sql("REVOKE SELECT ON t FROM alice")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        secured.sql("SELECT id FROM t", user="alice")


def test_row_level_security_is_refused_where_they_are(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, n int, s text); INSERT INTO t VALUES (1, 1, 's')")
    db.sql("CALL envelope.protect('t', '[\"s\"]')")
    db.sql("GRANT SELECT (id, s) ON t TO alice")
    assert db.sql("SELECT id, s FROM t", user="alice") == [(1, "s")]
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        db.sql("ALTER TABLE t_encrypted ENABLE ROW LEVEL SECURITY")
    assert db.sql("SELECT id, s FROM t", user="alice") == [(1, "s")]
    db.sql("REVOKE SELECT (id, s) ON t FROM alice")
    db.sql("ALTER TABLE t_encrypted ENABLE ROW LEVEL SECURITY")


def test_what_the_information_schema_says_of_columns(db: Database) -> None:
    """PostgreSQL answers for the columns without looking at INSTEAD OF triggers; for the view it looks at them."""
    db.sql("CREATE TABLE t (id int PRIMARY KEY, n int, s text)")
    db.sql("CALL envelope.protect('t', '[\"s\"]')")
    columns = "SELECT column_name, is_updatable FROM information_schema.columns WHERE table_name = 't' ORDER BY 1"
    assert db.sql(columns) == [("id", "YES"), ("n", "YES"), ("s", "NO")]
    view = "SELECT is_trigger_updatable, is_trigger_insertable_into FROM information_schema.views"
    assert db.sql(f"{view} WHERE table_name = 't'") == [("YES", "YES")]
