"""MERGE into a protected table, from PostgreSQL 17 on: DELETE is native, INSERT and UPDATE are not."""

from __future__ import annotations

import psycopg
import pytest

from tests.fix_stack import Database

TABLES = """
CREATE TABLE plain (id int PRIMARY KEY, email text, seen int NOT NULL DEFAULT 0);
INSERT INTO plain VALUES (1, 'one@example.org'), (2, 'two@example.org'), (3, NULL);
CREATE TABLE guarded (LIKE plain INCLUDING ALL);
INSERT INTO guarded SELECT * FROM plain;
CREATE TABLE given (id int, email text);
INSERT INTO given VALUES (2, 'second@example.org'), (3, 'third@example.org'), (4, 'fourth@example.org'), (5, NULL);
"""
ACTIONS = {
    "both": "WHEN MATCHED THEN UPDATE SET email = g.email, seen = t.seen + 1"
    " WHEN NOT MATCHED THEN INSERT (id, email) VALUES (g.id, g.email)",
    "by what is protected": "WHEN MATCHED AND t.email LIKE 'two@%' THEN UPDATE SET email = upper(t.email)"
    " WHEN MATCHED THEN DO NOTHING",
    "the key": "WHEN MATCHED AND g.id = 2 THEN UPDATE SET id = 20",
    "deleting": "WHEN MATCHED AND t.email LIKE 'two@%' THEN DELETE",
    "deleting all": "WHEN MATCHED THEN DELETE WHEN NOT MATCHED BY SOURCE THEN DELETE",
    "by source": "WHEN NOT MATCHED BY SOURCE THEN UPDATE SET email = 'none'",
}
MIXED = (
    "WHEN MATCHED AND t.id = 2 THEN DELETE WHEN MATCHED THEN UPDATE SET email = g.email",
    "WHEN MATCHED AND t.id = 2 THEN DELETE WHEN MATCHED THEN UPDATE SET seen = 7",
    "WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id) VALUES (g.id)",
)


@pytest.fixture
def merging(db: Database) -> Database:
    if db.admin.info.server_version < 170000:
        pytest.skip("PostgreSQL 17 is the first that merges into views")
    return made(db)


def made(db: Database) -> Database:
    db.sql(TABLES)
    db.sql("""CALL envelope.protect('guarded', '["email"]')""")
    return db


def merge(table: str, actions: str) -> str:
    return f"MERGE INTO {table} t USING given g ON t.id = g.id {actions}"


@pytest.mark.parametrize("actions", ACTIONS.values(), ids=ACTIONS)
def test_it_does_as_on_the_plain_table(merging: Database, actions: str) -> None:
    counts = [merging.admin.execute(merge(table, actions)).rowcount for table in ("plain", "guarded")]
    assert counts[0] == counts[1] > 0
    assert merging.sql("TABLE guarded ORDER BY id") == merging.sql("TABLE plain ORDER BY id")
    assert merging.one("SELECT count(*) FROM guarded_encrypted WHERE email IS NULL") == merging.one(
        "SELECT count(*) FROM plain WHERE email IS NULL"
    )


def test_it_returns_rows_as_the_plain_table_does(merging: Database) -> None:
    returning = f"{ACTIONS['both']} RETURNING merge_action(), t.*"
    plain, guarded = (sorted(merging.sql(merge(table, returning))) for table in ("plain", "guarded"))
    assert guarded == plain
    assert len(plain) == 4


def test_of_two_rows_that_match_one_the_first_is_taken(merging: Database) -> None:
    """A trigger is not told that MERGE calls it: it skips the second, as in an UPDATE with a join."""
    merging.sql("INSERT INTO given VALUES (2, 'second@example.org')")
    merging.sql(merge("guarded", "WHEN MATCHED THEN UPDATE SET email = g.email, seen = t.seen + 1"))
    assert merging.sql("SELECT email, seen FROM guarded WHERE id = 2") == [("second@example.org", 1)]


@pytest.mark.parametrize("actions", MIXED)
def test_delete_beside_another_action_is_refused_and_loses_nothing(merging: Database, actions: str) -> None:
    before = merging.sql("TABLE guarded ORDER BY id")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="cannot merge into"):
        merging.sql(merge("guarded", actions))
    assert merging.sql("TABLE guarded ORDER BY id") == before


def test_an_older_server_refuses_it(db: Database) -> None:
    if db.admin.info.server_version >= 170000:
        pytest.skip("this one merges into views")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        made(db).sql(merge("guarded", ACTIONS["both"]))
