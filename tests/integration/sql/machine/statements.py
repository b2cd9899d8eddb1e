"""Statements over a generated table, by a role that is not its owner."""

from __future__ import annotations

from hypothesis import strategies as st

IDS = st.integers(1, 6)
NUMBERS = st.sampled_from(("NULL", "1", "2", "3", "7", "13", "17", "600", "950"))
TEXTS = st.sampled_from(
    ("NULL", "'x'", "''", "'bad'", "E'one\\ntwo'", "repeat('long', 12)", "'Zoë'", "E'\\ttab'", "'y'")
)
SETTINGS = (
    "SET DateStyle = 'German'",
    "SET standard_conforming_strings = off",
    "SET search_path = {schema}, pg_catalog",
    "SET extra_float_digits = -3",
    "SET session_replication_role = replica",
    "SET transform_null_equals = on",
    "RESET ALL; SET search_path = {schema}, public",
)


def _insert(values: tuple[int, str, str, str]) -> str:
    number, n, s, m = values
    return f"INSERT INTO t (id, n, s, m) VALUES ({number}, {n}, {s}, {m}) RETURNING id, n, s, m"


def _several(rows: list[tuple[int, str, str, str]]) -> str:
    values = ", ".join(f"({number}, {n}, {s}, {m})" for number, n, s, m in rows)
    return f"INSERT INTO t (id, n, s, m) VALUES {values} RETURNING n, s"


def _moved(ids: tuple[int, int]) -> str:
    return f"UPDATE t SET id = '{ids[0] + 10}', m = 'moved' WHERE id = '{ids[1]}' RETURNING id, s, m"


TWICE = "(VALUES ('1', 'one'), ('1', 'uno'), ('2', 'two')) v (id, m)"
ROWS = st.tuples(IDS, NUMBERS, TEXTS, TEXTS)

STATEMENTS = st.one_of(
    ROWS.map(_insert),
    ROWS.map(_insert),
    st.lists(ROWS, min_size=2, max_size=3).map(_several),
    st.tuples(NUMBERS, TEXTS).map(lambda v: f"INSERT INTO t (n, s) VALUES ({v[0]}, {v[1]}) RETURNING n, s, m, who"),
    st.just("INSERT INTO t (id, n, s) SELECT 40 + x, x, 's' || x FROM generate_series(1, 3) x"),
    st.tuples(TEXTS, IDS).map(lambda v: f"UPDATE t SET s = {v[0]} WHERE id = '{v[1]}' RETURNING n, s"),
    st.tuples(NUMBERS, IDS).map(lambda v: f"UPDATE t SET n = {v[0]} WHERE id = '{v[1]}' RETURNING n, s, m"),
    st.tuples(IDS, IDS).map(
        lambda v: f"UPDATE t SET id = '{v[0] + 10}', m = 'moved' WHERE id = '{v[1]}' RETURNING id, s, m"
    ),
    st.sampled_from(
        (
            "UPDATE t SET m = s, s = m",
            "UPDATE t SET s = s || '!', n = n + 1 WHERE s IS NOT NULL RETURNING s, n",
            f"UPDATE t SET m = v.m FROM {TWICE} WHERE v.id = t.id::text",
            "UPDATE t SET n = DEFAULT RETURNING n",
            "UPDATE t SET m = upper(s) WHERE n IS NOT NULL",
            "UPDATE t SET n = n RETURNING n, s",
            "UPDATE p SET code = code + 10 WHERE code = 1",
            "DELETE FROM p WHERE code = 2",
            "DELETE FROM t",
            "DELETE FROM t WHERE s = 'x' RETURNING n, s, m",
            "DELETE FROM t USING (VALUES (1), (2)) v (n) WHERE t.n = v.n RETURNING s",
            "WITH d AS (DELETE FROM t WHERE n = 1 RETURNING n, s) INSERT INTO log (op, n) SELECT s, n FROM d",
            "WITH i AS (INSERT INTO t (id, n, s) VALUES (31, 2, 'cte') RETURNING n, s) SELECT count(*), min(s) FROM i",
            "WITH u AS (UPDATE t SET m = 'cte' WHERE n = 2 RETURNING s, m) SELECT * FROM u",
            "SELECT count(s), count(DISTINCT m), min(n) FROM t",
            "SELECT a.s, b.m FROM t a JOIN t b ON a.s = b.s AND a.n <= b.n",
            "SELECT n, string_agg(s, ',' ORDER BY s COLLATE \"C\") FROM t GROUP BY n",
            "SAVEPOINT a; UPDATE t SET s = 'gone'; ROLLBACK TO a; RELEASE a",
            "SET CONSTRAINTS ALL DEFERRED; UPDATE t SET id = '2' WHERE id = '1';"
            " UPDATE t SET id = '1', m = 'swapped' WHERE n = 2 AND id = '2' RETURNING id, n, s, m",
            "SET CONSTRAINTS ALL DEFERRED; UPDATE t SET id = '3' WHERE n = 1; UPDATE t SET s = s || '!' WHERE n = 1",
            "UPDATE t SET who = 'nobody' WHERE n = 1",
            "UPDATE t SET s = s, n = n, m = m, id = id RETURNING id, n, s",
            "UPDATE t SET (s, m) = (SELECT m, upper(s)) RETURNING s, m",
            "INSERT INTO t (id, n, s) SELECT '2' || id, n, s FROM t WHERE n < 5 RETURNING n, s",
            "WITH d AS (DELETE FROM t WHERE n = 2 RETURNING n, s) INSERT INTO t (id, n, s) SELECT 60, n, s FROM d",
            "INSERT INTO c SELECT 1, id FROM t",
            "UPDATE t SET boss = (SELECT min(id) FROM t)",
            "TABLE c",
        )
    ),
)
SETS = st.sampled_from(SETTINGS)
