"""What tables and statements can do since PostgreSQL 18: the protected table does it as its plain twin."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database

TABLES = ("plain", "guarded")
TABLE = """
CREATE TABLE {} (
    id uuid PRIMARY KEY DEFAULT uuidv7(),
    email text CONSTRAINT email_is_there NOT NULL,
    n int CONSTRAINT n_is_there NOT NULL,
    twice int GENERATED ALWAYS AS (n * 2),
    thrice int GENERATED ALWAYS AS (n * 3) STORED,
    made timestamptz GENERATED ALWAYS AS (uuid_extract_timestamp(id)) VIRTUAL,
    CONSTRAINT has_at CHECK (email LIKE '%@%') NOT ENFORCED,
    CONSTRAINT small CHECK (twice < 100),
    CONSTRAINT short CHECK (length(email) + twice < 160))
"""
FIRST = "00000000-0000-7000-8000-000000000001"
OTHER = "00000000-0000-7000-8000-000000000002"
RETURNED = "RETURNING old.*, new.*, old.email, new.email, email"
# In this order, on the same rows.
STATEMENTS = (
    f"INSERT INTO {{}} (id, email, n) VALUES ('{FIRST}', 'one@example.org', 1), ('{OTHER}', 'no mail', 2) {RETURNED}",
    f"INSERT INTO {{}} (id, email, n) VALUES ('{FIRST}', 'again', 1)",
    f"INSERT INTO {{}} (email, n) VALUES (NULL, 1) {RETURNED}",
    f"INSERT INTO {{}} (email, n) VALUES ('x', NULL) {RETURNED}",
    f"INSERT INTO {{}} (email, n) VALUES ('x', 50) {RETURNED}",
    "INSERT INTO {} (email, n) VALUES ('drawn', 4) RETURNING uuid_extract_version(id), made IS NOT NULL, twice",
    "INSERT INTO {} (email, n, twice) VALUES ('x', 4, 8)",
    f"INSERT INTO {{}} (id, email, n, twice) VALUES ('{FIRST[:-1]}3', 'x', 4, DEFAULT) {RETURNED}",
    f"UPDATE {{}} SET email = email || '+', n = n + 1 WHERE id = '{FIRST}' {RETURNED}",
    f"UPDATE {{}} SET n = 7 WHERE id = '{OTHER}' RETURNING old.n, new.n, old.twice, new.twice, old.thrice, new.thrice",
    f"UPDATE {{}} SET n = 60 WHERE id = '{OTHER}' {RETURNED}",
    f"UPDATE {{}} SET twice = 5 WHERE id = '{OTHER}'",
    f"UPDATE {{}} SET email = repeat('x', 150) WHERE id = '{OTHER}' {RETURNED}",
    f"UPDATE {{}} SET email = NULL WHERE id = '{OTHER}' {RETURNED}",
    f"UPDATE {{}} SET id = '{FIRST[:-1]}9' WHERE id = '{FIRST}'"
    " RETURNING WITH (OLD AS o, NEW AS n) o.id, n.id, o.made, n.made",
    f"MERGE INTO {{}} t USING (VALUES ('{OTHER}'::uuid, 'two'), ('{FIRST}', 'one')) g (id, email) ON t.id = g.id"
    " WHEN MATCHED THEN UPDATE SET email = g.email"
    " WHEN NOT MATCHED THEN INSERT (id, email, n) VALUES (g.id, g.email, 1)"
    " RETURNING merge_action(), old.email, new.*",
    f"MERGE INTO {{}} t USING (VALUES ('{OTHER}'::uuid)) g (id) ON t.id = g.id WHEN MATCHED THEN DELETE"
    " RETURNING merge_action(), old.*, new.email",
    f"DELETE FROM {{}} WHERE n < 4 {RETURNED}",
    "DELETE FROM {} WHERE n >= 4 RETURNING WITH (OLD AS o, NEW AS n) o.email, n.email, o.twice",
)
# A function of a user in a CHECK makes writes run as their caller.
OWN_CODE = """
CREATE FUNCTION fits(text) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN length($1) < 300; END';
ALTER TABLE guarded ADD CONSTRAINT fits CHECK (fits(email));
ALTER TABLE plain ADD CONSTRAINT fits CHECK (fits(email));
"""
# Not the one with a drawn key.
STORED = "SELECT id, email, n, twice, thrice FROM {} WHERE n <> 4 ORDER BY id"
CONSTRAINTS = """
SELECT conname, contype, conenforced, convalidated, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = %s::regclass AND contype <> 'p' AND conname NOT LIKE '%%_id_not_null' ORDER BY 1"""


@pytest.fixture
def newer(db: Database) -> Database:
    if db.admin.info.server_version < 180000:
        pytest.skip("PostgreSQL 18 is the first that knows this")
    return db


def pair(db: Database, *ddl: str) -> None:
    for table in TABLES:
        db.sql(TABLE.format(table))
    for statement in ddl:
        db.sql(statement)
    db.sql("""CALL envelope.protect('guarded', '["email"]')""")


def outcome(db: Database, table: str, statement: str) -> Any:
    """Rows without their order, or what the error names."""
    try:
        return sorted(map(repr, db.sql(statement.format(table))))
    except psycopg.Error as error:
        return error.sqlstate, (error.diag.constraint_name or "").removeprefix(table), error.diag.column_name


@pytest.mark.parametrize("ddl", [(), (OWN_CODE,), ("ALTER TABLE guarded ENABLE ROW LEVEL SECURITY",)])
def test_every_statement_does_as_on_the_plain_table(newer: Database, ddl: tuple[str, ...]) -> None:
    pair(newer, *ddl)
    for statement in STATEMENTS:
        plain, guarded = (outcome(newer, table, statement) for table in TABLES)
        assert guarded == plain, statement
        plain, guarded = (newer.sql(STORED.format(table)) for table in TABLES)
        assert guarded == plain, statement


def test_constraints_come_back_as_they_were(newer: Database) -> None:
    pair(newer)
    newer.sql("INSERT INTO guarded (email, n) VALUES ('no mail', 1)")
    newer.sql("CALL envelope.refresh('guarded')")
    newer.sql("CALL envelope.unprotect('guarded')")
    assert newer.sql(CONSTRAINTS, "guarded") == newer.sql(CONSTRAINTS, "plain")
    assert ("has_at", "c", False, False) in [row[:4] for row in newer.sql(CONSTRAINTS, "plain")]


def test_a_not_null_that_old_rows_violate(newer: Database) -> None:
    for table in TABLES:
        newer.sql(f"CREATE TABLE {table} (id int PRIMARY KEY, email text, n int)")
        newer.sql(f"INSERT INTO {table} VALUES (1, NULL, 1), (2, 'x', 2)")
        newer.sql(f"ALTER TABLE {table} ADD CONSTRAINT later NOT NULL email NOT VALID")
    newer.sql("""CALL envelope.protect('guarded', '["email"]')""")
    for statement in (
        "TABLE {}",
        "INSERT INTO {} VALUES (3, NULL, 3)",
        "UPDATE {} SET n = n + 1 WHERE id = 1",
        "UPDATE {} SET n = n + 1 WHERE id = 2 RETURNING new.n",
        "UPDATE {} SET email = 'y' WHERE id = 1 RETURNING old.email, new.email",
    ):
        plain, guarded = (outcome(newer, table, statement) for table in TABLES)
        assert guarded == plain, statement
    newer.sql("ALTER TABLE guarded_encrypted VALIDATE CONSTRAINT later")
    newer.sql("CALL envelope.unprotect('guarded')")
    assert ("later", "n", True, True, "NOT NULL email") in newer.sql(CONSTRAINTS, "guarded")


def test_a_virtual_column_over_a_protected_one_is_refused(newer: Database) -> None:
    newer.sql("CREATE TABLE guarded (id int PRIMARY KEY, email text, upper text GENERATED ALWAYS AS (upper(email)))")
    for column in ("email", "upper"):
        with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
            newer.sql(f"""CALL envelope.protect('guarded', '["{column}"]')""")
        assert "column upper" in str(refused.value.diag.message_detail)
        assert refused.value.diag.message_hint
    newer.sql("INSERT INTO guarded VALUES (1, 'x')")


def test_a_virtual_column_follows_its_new_expression(newer: Database) -> None:
    for table in TABLES:
        newer.sql(f"CREATE TABLE {table} (email text, n int, more int GENERATED ALWAYS AS (n + 5))")
    newer.sql("""CALL envelope.protect('guarded', '{"email": {"bind": "column"}}')""")
    for base in ("plain", "guarded_encrypted"):
        newer.sql(f"ALTER TABLE {base} ALTER more SET EXPRESSION AS (n + 6)")
    newer.sql("CALL envelope.refresh('guarded')")
    statement = "INSERT INTO {} (email, n) VALUES ('x', 1) RETURNING more, new.more"
    assert outcome(newer, "guarded", statement) == outcome(newer, "plain", statement) == ["(7, 7)"]


def test_a_foreign_key_that_is_not_enforced(newer: Database) -> None:
    newer.sql("CREATE TABLE parent (id int PRIMARY KEY)")
    pair(newer)
    for base in ("plain", "guarded_encrypted"):
        newer.sql(f"ALTER TABLE {base} ADD p int DEFAULT 7 REFERENCES parent NOT ENFORCED")
    newer.sql("CALL envelope.refresh('guarded')")
    statement = "INSERT INTO {} (email, n) VALUES ('x', 1) RETURNING p"
    assert outcome(newer, "guarded", statement) == outcome(newer, "plain", statement) == ["(7,)"]
