"""Parallel plans: none reads through the view; the base table's columns in the clear have them."""

from __future__ import annotations

import pytest

from tests.fix_stack import Database

EAGER = "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0"


@pytest.fixture
def big(db: Database) -> Database:
    db.sql("CREATE TABLE big (id int PRIMARY KEY, email text, n int)")
    db.sql("INSERT INTO big SELECT g, 'mail' || g, g FROM generate_series(1, 500) g")
    db.sql("""CALL envelope.protect('big', '["email"]')""")
    db.sql(f"ANALYZE big_encrypted; {EAGER}")
    return db


def is_parallel(db: Database, query: str) -> bool:
    return "Gather" in str(db.sql(f"EXPLAIN {query}"))


@pytest.mark.parametrize("columns", ["count(*)", "sum(n)", "count(email)"])
def test_no_query_of_the_view_is_parallel(big: Database, columns: str) -> None:
    assert not is_parallel(big, f"SELECT {columns} FROM big")
    assert big.one("SELECT count(email) FROM big WHERE n > 0") == 500


def test_a_query_of_the_base_table_is(big: Database) -> None:
    assert is_parallel(big, "SELECT sum(n) FROM big_encrypted")
    assert big.one("SELECT sum(n) FROM big_encrypted") == big.one("SELECT sum(n) FROM big")


def test_writes_and_jobs_where_all_plans_shall_be_parallel(big: Database) -> None:
    name = "debug_parallel_query" if big.admin.info.server_version >= 160000 else "force_parallel_mode"
    big.sql(f"SET {name} = on")
    assert big.sql("INSERT INTO big VALUES (501, 'x', 1) RETURNING email") == [("x",)]
    assert big.sql("UPDATE big SET email = email || '+' WHERE id = 501 RETURNING email") == [("x+",)]
    big.sql("SELECT envelope.rotate('big')")
    big.sql("CALL envelope.reencrypt('big')")
    big.sql("CALL envelope.verify('big')")
    assert big.sql("DELETE FROM big WHERE id = 501 RETURNING email") == [("x+",)]
    assert big.sql("TABLE envelope.faults") == []
