"""Keys over periods, since PostgreSQL 18: WITHOUT OVERLAPS and PERIOD."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database

TABLES = ("plain", "guarded")
SCHEMA = """
CREATE FUNCTION period(date, date) RETURNS {type} IMMUTABLE LANGUAGE sql RETURN daterange($1, $2)::{type};
CREATE TABLE room (id int, at {type}, PRIMARY KEY (id, at WITHOUT OVERLAPS));
INSERT INTO room SELECT g, period('2020-01-01', '2030-01-01') FROM generate_series(1, 3) g;
"""
TABLE = """
CREATE TABLE {table} (
    id int, at {type}, email text, desk int DEFAULT 0, booked {type},
    PRIMARY KEY (id, at WITHOUT OVERLAPS) {deferrable}, UNIQUE (desk, booked WITHOUT OVERLAPS),
    FOREIGN KEY (id, PERIOD at) REFERENCES room);
INSERT INTO {table} (id, at, email) VALUES (1, period('2021-01-01', '2022-01-01'), 'one'),
    (1, period('2022-01-01', '2023-01-01'), 'two'), (2, period('2022-01-01', '2023-01-01'), 'three');
"""
# In this order, on the same rows.
STATEMENTS = (
    "INSERT INTO {} (id, at, email) VALUES (1, period('2021-06-01', '2021-07-01'), 'overlaps')",
    "INSERT INTO {} (id, at, email) VALUES (1, period(NULL, NULL) - period(NULL, NULL), 'empty')",
    "INSERT INTO {} (id, at, email) VALUES (1, period('2040-01-01', '2041-01-01'), 'without a room')",
    "INSERT INTO {} (id, at, email) VALUES (1, period('2023-01-01', '2024-01-01'), 'four') RETURNING *",
    "UPDATE {} SET email = email || '+' RETURNING *",
    "UPDATE {} SET at = period('2021-01-01', '2021-06-01'), email = 'half' WHERE email LIKE 'one%' RETURNING *",
    "UPDATE {} SET at = period('2022-03-01', '2022-06-01') WHERE email LIKE 'two%' RETURNING *, old.at",
    "UPDATE {} SET at = period('2021-01-01', '2029-01-01') WHERE email LIKE 'two%'",
    "UPDATE {} SET booked = period('2021-01-01', '2022-01-01')",
    "UPDATE {} SET desk = id, booked = period('2021-01-01', '2022-01-01') WHERE email LIKE 't%' RETURNING *",
    "UPDATE {} SET id = 3 WHERE id = 1 AND email = 'half' RETURNING *",
    "MERGE INTO {} t USING (VALUES (1, 2022, 'met'), (2, 2025, 'new')) g (id, year, email)"
    " ON t.id = g.id AND t.at && period(make_date(year, 1, 1), make_date(year + 1, 1, 1))"
    " WHEN MATCHED THEN UPDATE SET email = g.email WHEN NOT MATCHED THEN INSERT (id, at, email)"
    " VALUES (g.id, period(make_date(year, 1, 1), make_date(year + 1, 1, 1)), g.email)",
    "DELETE FROM room WHERE id = 1",
    "DELETE FROM {} WHERE at @> '2021-03-01'::date RETURNING *",
)


@pytest.fixture(params=["daterange", "datemultirange"])
def period(request: pytest.FixtureRequest, db: Database) -> str:
    if db.admin.info.server_version < 180000:
        pytest.skip("PostgreSQL 18 is the first with keys over periods")
    db.sql("CREATE EXTENSION btree_gist")
    db.sql(SCHEMA.format(type=request.param))
    return str(request.param)


def pair(db: Database, period: str, deferrable: str = "") -> None:
    for table in TABLES:
        db.sql(TABLE.format(table=table, type=period, deferrable=deferrable))
    db.sql("""CALL envelope.protect('guarded', '["email"]')""")


def outcome(db: Database, table: str, statement: str) -> Any:
    try:
        return sorted(map(repr, db.sql(statement.replace("{}", table))))
    except psycopg.Error as error:
        return error.sqlstate


def agree(db: Database, statement: str) -> None:
    plain, guarded = (outcome(db, table, statement) for table in TABLES)
    assert guarded == plain, statement
    plain, guarded = (db.sql(f"TABLE {table} ORDER BY id, at, email") for table in TABLES)
    assert guarded == plain, statement


def test_every_statement_does_as_on_the_plain_table(db: Database, period: str) -> None:
    pair(db, period)
    for statement in STATEMENTS:
        agree(db, statement)


def test_a_row_is_found_by_its_own_period(db: Database, period: str) -> None:
    """While its constraint is deferred, another row's may overlap."""
    pair(db, period, "DEFERRABLE INITIALLY DEFERRED")
    with db.admin.transaction():
        for statement in (
            "INSERT INTO {} (id, at, email) VALUES (1, period('2021-06-01', '2021-08-01'), 'overlaps')",
            "UPDATE {} SET email = 'alone' WHERE email = 'overlaps' RETURNING *",
            "UPDATE {} SET at = period('2025-01-01', '2026-01-01') WHERE email = 'one' RETURNING *",
        ):
            agree(db, statement)


def test_keys_turn_and_jobs_walk(db: Database, period: str) -> None:
    pair(db, period)
    db.sql("SET DateStyle = German")
    db.sql("SELECT envelope.rotate('guarded')")
    db.sql("CALL envelope.reencrypt('guarded', 2)")
    db.sql("CALL envelope.verify('guarded')")
    assert db.sql("TABLE envelope.faults") == []
    db.sql("CALL envelope.unprotect('guarded')")
    agree(db, "UPDATE {} SET email = upper(email) RETURNING *")


def test_foreign_keys_point_at_the_base_table(db: Database, period: str) -> None:
    pair(db, period)
    for table, base in (("plain", "plain"), ("guarded", "guarded_encrypted")):
        db.sql(f"CREATE TABLE of_{table} (id int, at {period}, FOREIGN KEY (id, PERIOD at) REFERENCES {base})")
    for statement in (
        "INSERT INTO of_{} VALUES (1, period('2021-02-01', '2022-08-01'))",
        "INSERT INTO of_{} VALUES (1, period('2023-02-01', '2023-08-01'))",
        "UPDATE {} SET at = period('2021-01-01', '2021-02-01') WHERE email = 'one'",
        "UPDATE {} SET at = period('2020-06-01', '2022-01-01') WHERE email = 'one' RETURNING *",
        "DELETE FROM {} WHERE email = 'two'",
    ):
        agree(db, statement)
