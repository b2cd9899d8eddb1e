"""Each form in which people look a value up is served by the index, and finds what it finds on the plain table."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from stack.stack import Stack
from tests.fix_stack import COPY, Database
from tests.integration.search.fix_users import make_users, plan

ONE = "user17@example.org"
TWO = ["user17@example.org", "user18@example.org"]
CONDITIONS = {
    "literal": f"email_search = '{ONE}'",
    "mirrored": f"'{ONE}' = email_search",
    "text": f"email_search = '{ONE}'::text",
    "varchar": f"email_search = '{ONE}'::varchar",
    "another collation": f"email_search = '{ONE}'::text COLLATE \"C\"",
    "name": f"email_search = '{ONE}'::name",
    "the column's collation": f"email_search COLLATE \"C\" = '{ONE}'::text",
    "ANY of one": f"email_search = ANY ('{{{ONE}}}'::text[])",
    "ANY of two": f"email_search = ANY ('{{{','.join(TWO)}}}'::text[])",
    "ANY of untyped": f"email_search = ANY ('{{{','.join(TWO)}}}')",
    "typed IN": f"email_search IN ('{TWO[0]}'::text, '{TWO[1]}'::text)",
    "OR": f"email_search = '{TWO[0]}' OR email_search = '{TWO[1]}'",
    "sub-select": f"email_search = (SELECT '{ONE}'::text)",
    "IN (SELECT)": f"email_search IN (SELECT e::text FROM unnest('{{{','.join(TWO)}}}'::text[]) e)",
    "EXISTS": f"EXISTS (SELECT FROM (VALUES ('{ONE}')) v (e) WHERE v.e = email_search)",
}


@pytest.fixture(scope="module")
def users(stack: Stack) -> Iterator[Database]:
    """2000 users, protected, and the plain twin: for tests that change nothing, or undo it."""
    name = f"lookups_{os.getpid()}"
    with stack.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE {name} {COPY}")
    made = Database(stack, name)
    make_users(made, twin=True)
    made.sql("GRANT SELECT ON users TO alice")
    yield made
    made.close()
    with stack.connect("postgres") as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def db(users: Database) -> Iterator[Database]:
    with users.admin.transaction(force_rollback=True):
        yield users


@pytest.mark.parametrize("form", CONDITIONS)
def test_a_condition_is_served_by_the_index(db: Database, form: str) -> None:
    db.sql("SET LOCAL ROLE alice")
    query = f"SELECT id FROM users WHERE {CONDITIONS[form]}"
    expected = [(17,), (18,)] if "user18" in CONDITIONS[form] else [(17,)]
    assert sorted(db.sql(query)) == expected
    assert "users_email_key" in plan(db.admin, query)


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
def test_drivers_parameters(db: Database, binary: bool, mode: str) -> None:
    """Also with the first look-up of a session, and as a statement that the driver prepares."""
    for cold in (True, False):
        connection = db.connect() if cold else db.admin
        connection.execute(sql.SQL("SET plan_cache_mode = {}").format(mode))
        for _ in range(3):
            cursor = connection.execute(
                "SELECT id FROM users WHERE email_search = %s", [ONE], prepare=True, binary=binary
            )
            assert cursor.fetchall() == [(17,)]
            cursor = connection.execute(
                "SELECT id FROM users WHERE email_search = ANY (%s) ORDER BY id", [TWO], prepare=True, binary=binary
            )
            assert cursor.fetchall() == [(17,), (18,)]


@pytest.mark.parametrize("count", [1, 2])
def test_a_cold_session_may_begin_with_any(db: Database, count: int) -> None:
    found = db.connect().execute("SELECT count(*) FROM users WHERE email_search = ANY (%s)", [TWO[:count]]).fetchone()
    assert found == (count,)


def test_a_generic_plan_uses_the_index(db: Database) -> None:
    db.sql("SET plan_cache_mode = force_generic_plan")
    db.sql("PREPARE one AS SELECT id FROM users WHERE email_search = $1")
    db.sql("PREPARE several AS SELECT id FROM users WHERE email_search = ANY ($1)")
    assert "users_email_key" in plan(db.admin, f"EXECUTE one('{ONE}')")
    assert "users_email_key" in plan(db.admin, f"EXECUTE several('{{{ONE}}}')")


def test_a_function_s_variable(db: Database) -> None:
    db.sql(
        "CREATE FUNCTION found(wanted text) RETURNS int LANGUAGE plpgsql AS"
        " 'BEGIN RETURN (SELECT id FROM users WHERE email_search = wanted); END'"
    )
    assert db.one(f"SELECT found('{ONE}')") == 17


def test_tenant_first(db: Database) -> None:
    query = "SELECT id FROM users WHERE tenant_id = 7 AND surname_search = 'name17'"
    assert "users_by_tenant" in plan(db.admin, query)
    assert db.sql(query + " ORDER BY id")[0] == (17,)


def test_the_columns_of_the_index_serve_as_a_condition(db: Database) -> None:
    db.sql("SET enable_seqscan = off; DROP INDEX users_surname_search_idx")
    found = plan(db.admin, "SELECT id FROM users WHERE tenant_id = 7 AND surname_search = 'name17'")
    assert "Index Cond: ((tenant_id = 7) AND ((surname_search)" in found


JOINS = {
    "column to column": "SELECT a.id FROM users a JOIN users b ON a.email_search = b.email_search WHERE b.id = 17",
    "USING": "SELECT a.id FROM users a JOIN users b USING (email_search) WHERE b.id = 17",
    "another collation": 'SELECT a.id FROM users a JOIN users b ON a.email_search COLLATE "C" = b.email_search'
    " WHERE b.id = 17",
    "to a text": "SELECT u.id FROM given g JOIN users u ON u.email_search = g.email",
    "LATERAL": "SELECT u.id FROM given g, LATERAL (SELECT id FROM users WHERE email_search = g.email) u",
    "IN (SELECT column)": "SELECT id FROM users WHERE email_search IN (SELECT email_search FROM users WHERE id = 17)",
}


@pytest.mark.parametrize("form", JOINS)
def test_joins(db: Database, form: str) -> None:
    db.sql(f"CREATE TABLE given AS SELECT '{ONE}'::text AS email; ANALYZE given")
    assert db.sql(JOINS[form]) == [(17,)]
    found = plan(db.admin, JOINS[form])
    # PostgreSQL 18 knows that a table joined to itself by a unique column gives the same rows, and reads it once.
    assert "users_email_key" in found or ("users_pkey" in found and found.count("Scan") == 1)


def test_what_groups_and_counts(db: Database) -> None:
    db.sql("UPDATE users SET surname = NULL WHERE id % 5 = 0; UPDATE plain SET surname = NULL WHERE id % 5 = 0")
    for query in (
        "SELECT count(DISTINCT {c}) FROM {t}",
        "SELECT count(*) FROM (SELECT DISTINCT {c} FROM {t}) d",
        "SELECT array_agg(n ORDER BY n) FROM (SELECT count(*) AS n FROM {t} GROUP BY {c}) g",
        "SELECT count(*) FROM {t} WHERE {c} IS NULL",
        "SELECT count(*) FROM {t} WHERE {c} IS NOT NULL",
        "SELECT count(*) FROM {t} WHERE {c} <> 'name3'",
        "SELECT count(*) FROM {t} WHERE {c} IS DISTINCT FROM 'name3'",
        "SELECT count(*) FROM {t} WHERE NOT ({c} = 'name3')",
        "SELECT count(*) FROM {t} WHERE {c} = NULL",
        "SELECT count(*) FROM {t} WHERE {c} <> ALL ('{{name3,name4}}'::text[])",
        "SELECT count(*) FROM {t} a JOIN {t} b ON a.{c} = b.{c}",
    ):
        searched, plain = query.format(t="users", c="surname_search"), query.format(t="plain", c="surname")
        assert db.sql(searched) == db.sql(plain), query


REFUSED = {
    "email_search IN ('a', 'b')": psycopg.errors.FeatureNotSupported,
    "email_search LIKE 'user%'": psycopg.errors.UndefinedFunction,
    "email_search < 'b'": psycopg.errors.UndefinedFunction,
    "email_search BETWEEN 'a' AND 'b'": psycopg.errors.UndefinedFunction,
    "email_search = 1": psycopg.errors.UndefinedFunction,
    "email_search = '\\x00'::bytea": psycopg.errors.UndefinedFunction,
    "email_search = surname_search": psycopg.errors.UndefinedFunction,
}


@pytest.mark.parametrize("condition", REFUSED)
def test_what_tokens_cannot_answer_is_refused(db: Database, condition: str) -> None:
    """When it is parsed, rows or none."""
    db.sql("DELETE FROM users")
    with pytest.raises(REFUSED[condition]):
        db.sql(f"SELECT id FROM users WHERE {condition}")


def estimate(db: Database, query: str) -> int:
    rows: int = db.one(f"EXPLAIN (FORMAT json) {query}")[0]["Plan"]["Plan Rows"]
    return rows


def test_the_planner_knows_how_many_rows_have_a_value(db: Database) -> None:
    """By the statistics of tokens, as it knows it of values."""
    db.sql("UPDATE users SET surname = 'common' WHERE id % 2 = 0; UPDATE plain SET surname = 'common' WHERE id % 2 = 0")
    db.sql("ANALYZE users_encrypted; ANALYZE plain")
    for value in ("common", "name17"):
        searched = estimate(db, f"SELECT id FROM users WHERE surname_search = '{value}'")
        plain = estimate(db, f"SELECT id FROM plain WHERE surname = '{value}'")
        assert abs(searched - plain) <= max(10, plain / 2)


def test_other_columns_compare_as_before(db: Database) -> None:
    """The operators lie in the table's own schema, beside everybody's statements."""
    db.sql("CREATE TABLE kinds (v varchar, c char(9), n name, x text); INSERT INTO kinds VALUES ('a', 'a', 'a', 'a')")
    for column in "vcnx":
        assert db.sql(f"SELECT 1 FROM kinds WHERE {column} = 'a' AND 'a' = {column} AND {column} <> 'b'") == [(1,)]
        assert db.sql(f"SELECT 1 FROM kinds WHERE {column} IN ('a', 'b') AND {column} = ANY ('{{a}}')") == [(1,)]
        assert db.sql(f"SELECT 1 FROM kinds a JOIN kinds b ON a.{column} = b.x") == [(1,)]
