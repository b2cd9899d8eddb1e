"""A range search beside plans, rights, PL/pgSQL, row security, erasure, roll-outs, dumps and wrong options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from stack.postgres import Cluster
from tests.fix_stack import Database, Fill
from tests.integration.operations.fix_clusters import run
from tests.integration.search.fix_users import plan


@pytest.fixture
def table(db: Database) -> Database:
    """Two people's dates of birth, and 2000 others between 1950 and 2004."""
    return made(db)


def made(db: Database) -> Database:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, person name NOT NULL, born date)")
    db.sql("INSERT INTO t VALUES (1, 'alice', '1990-02-14'), (2, 'bob', '1990-03-01'), (3, 'bob', NULL)")
    db.sql("INSERT INTO t SELECT i, 'nobody', date '1950-01-01' + i * 10 FROM generate_series(10, 2000) i")
    return db


MONTHS = '{"range": {"bucket": "month", "force": true}}'
BORN = "born_range <@ daterange('1990-02-10', '1990-02-20') AND born >= '1990-02-10' AND born < '1990-02-20'"
# The first condition keeps the answer short, and no index serves it.
FOUND = f"SELECT id FROM t WHERE abs(id) < 10 AND {BORN}"
INDEX = "t_born_range_idx"


def with_months(db: Database, more: str = "") -> Database:
    db.sql(f"""CALL envelope.protect('t', '{{"born": {{"search": {MONTHS}}}}}'{more})""")
    db.sql("ANALYZE t_encrypted")
    return db


def fill(db: Database) -> None:
    with_months(made(db))


@pytest.fixture
def months(filled: Callable[[Fill], Database]) -> Database:
    """The table, protected; a copy, for tests that destroy no key."""
    return filled(fill)


def test_the_index_serves_each_form(months: Database) -> None:
    months.sql("PREPARE p (daterange) AS SELECT id FROM t WHERE born_range <@ $1")
    months.sql("SET plan_cache_mode = force_generic_plan; CREATE TABLE spans (span daterange)")
    months.sql("INSERT INTO spans VALUES ('[1990-02-10,1990-02-20)'), (NULL), ('empty')")
    forms = (
        FOUND,
        "SELECT id FROM t WHERE born_range <@ '[1990-02-10,1990-02-20)'",
        "SELECT id FROM t WHERE daterange('1990-02-10', '1990-02-20') @> born_range",
        "EXECUTE p('[1990-02-10,1990-02-20)')",
        "SELECT id FROM t WHERE born_range <@ (SELECT span FROM spans WHERE NOT isempty(span))",
        "SELECT t.id FROM spans s CROSS JOIN LATERAL (SELECT id FROM t WHERE born_range <@ s.span OFFSET 0) t",
        "SELECT id FROM t WHERE born_range <@ '[1990-02-10,1990-02-20)' OR born_range <@ '[2001-02-10,2001-02-20)'",
    )
    for query in forms:
        assert INDEX in plan(months.admin, query), query
        assert (1,) in months.sql(query), query
        assert (2,) not in months.sql(query), query
    read = plan(months.admin, FOUND, analyze=True)
    assert "rows=1 " in read or "rows=1.00" in read


def test_a_function_in_plpgsql_searches_by_parameters(months: Database) -> None:
    months.sql(
        "CREATE FUNCTION found(a date, b date) RETURNS SETOF int LANGUAGE plpgsql AS 'BEGIN RETURN QUERY SELECT id"
        " FROM t WHERE born_range <@ daterange(a, b) AND coalesce(born >= a, true) AND coalesce(born < b, true)"
        " AND id < 10; END'"
    )
    for _ in range(7):
        assert months.sql("SELECT found('1990-02-10', '1990-02-20')") == [(1,)]
    assert sorted(months.sql("SELECT found('1990-02-10', NULL)")) == [(1,), (2,)]
    assert sorted(months.sql("SELECT found(NULL, '1990-02-20')")) == [(1,)]
    assert sorted(months.sql("SELECT found(NULL, NULL)")) == [(1,), (2,)]
    assert months.sql("SELECT id FROM t WHERE born_range <@ NULL::daterange") == []
    assert months.sql("SELECT id FROM t WHERE born_range <@ 'empty'::daterange") == []
    assert months.sql("SELECT id FROM t WHERE born_range IS NULL") == [(3,)]


def test_writes_change_what_is_found(months: Database) -> None:
    months.sql("UPDATE t SET born = '1990-02-15' WHERE id = 3; UPDATE t SET born = NULL WHERE id = 1")
    months.sql("INSERT INTO t VALUES (4, 'x', '1990-02-19'), (5, 'x', '1990-02-20')")
    assert sorted(months.sql(FOUND)) == [(3,), (4,)]
    months.sql("DELETE FROM t WHERE born_range <@ daterange('1990-02-01', '1990-03-01') AND born = '1990-02-19'")
    assert months.sql(FOUND) == [(3,)]


def test_buckets_are_not_shown_and_have_no_literals(months: Database) -> None:
    assert months.sql("SELECT born_range::text FROM t WHERE id = 1") == [("",)]
    for forged in (
        "born_range OPERATOR(envelope_compare.&&) '1'",
        "born_range::oidvector IS NULL",
        "born_range && '1'",
        "born_range = '1'",
        "born_range <@ born_range",
        "born_range < '1990-01-01'::date",
        "born_range <@ tsrange('1990-01-01', NULL)",
        "born_range @> date '1990-01-01'",
    ):
        with pytest.raises(psycopg.Error):
            months.sql(f"SELECT id FROM t WHERE {forged}")


@pytest.mark.parametrize(
    "condition",
    [
        "NOT born_range <@ daterange('1990-02-10', '1990-02-20')",
        "(born_range <@ daterange('1990-02-10', '1990-02-20')) = false",
        "(daterange('1990-02-10', '1990-02-20') @> born_range) <> true",
        f"NOT ({BORN})",
        "id IN (SELECT id FROM t WHERE NOT (born_range <@ daterange('1990-02-10', NULL) OR id = 5))",
    ],
)
def test_what_would_miss_rows_is_refused(months: Database, condition: str) -> None:
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        months.sql(f"SELECT id FROM t WHERE {condition}")
    assert refused.value.diag.message_hint


def test_a_new_key_another_bucket_and_verify(months: Database) -> None:
    months.sql("CALL envelope.rotate_search('t', 'born')")
    assert months.sql(FOUND) == [(1,)]
    months.sql("CALL envelope.rotate_search('t', 'born', normalizer => 'range-day')")
    assert months.sql("SELECT normalizer FROM envelope.searches") == [("range-day/1",)]
    assert months.sql(FOUND) == [(1,)]
    assert INDEX in plan(months.admin, FOUND)
    assert months.sql("SELECT id FROM t WHERE born_range <@ daterange('1990-02-14', '1990-02-15') AND id < 10") == [
        (1,)
    ]
    months.sql("CALL envelope.verify('t')")
    assert months.sql("SELECT reason FROM envelope.faults") == []
    months.sql("UPDATE t_encrypted SET born_range = (SELECT born_range FROM t_encrypted WHERE id = 2) WHERE id = 1")
    months.sql("CALL envelope.verify('t')")
    assert months.sql("SELECT reason FROM envelope.faults") == [("wrong token",)]
    for normalizer in ("year", "match", "exact", "range-1000", "range-week"):
        with pytest.raises(psycopg.Error):
            months.sql(f"CALL envelope.rotate_search('t', 'born', normalizer => '{normalizer}')")


def test_add_and_drop(table: Database) -> None:
    table.sql("""CALL envelope.protect('t', '["born"]')""")
    table.sql(f"CALL envelope.add_search('t', 'born', '{MONTHS}')")
    assert table.sql(FOUND) == [(1,)]
    assert INDEX in plan(table.admin, FOUND)
    table.sql("CALL envelope.drop_search('t', 'born')")
    for catalog, name, schema in (("pg_type", "typname", "typnamespace"), ("pg_proc", "proname", "pronamespace")):
        left = f"SELECT count(*) FROM {catalog} WHERE starts_with({name}::text, 'range_')"
        assert table.one(f"{left} AND {schema} = 'envelope_search'::regnamespace") == 0


def test_who_searches_without_reading_sees_candidates(months: Database) -> None:
    months.sql("SELECT envelope.grant_search('t', 'born', 'alice'); GRANT SELECT (id) ON t TO alice, bob")
    candidates = "SELECT id FROM t WHERE born_range <@ daterange('1990-02-10', '1990-02-20') AND id < 10"
    assert months.sql(candidates, user="alice") == [(1,)]
    for user, query in (("alice", FOUND), ("bob", candidates), ("alice", "SELECT born_range::text FROM t_encrypted")):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            months.sql(query, user=user)


def test_row_security_hides_rows_from_a_search(table: Database) -> None:
    table.sql("ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON t USING (person = current_user)")
    table.sql("GRANT SELECT ON t TO alice, bob")
    with_months(table)
    assert [table.sql(FOUND, user=user) for user in ("alice", "bob")] == [[(1,)], []]
    with table.connect("alice") as alice:
        alice.execute("SET enable_seqscan = off")
        assert INDEX in plan(alice, FOUND)


def test_shred_clears_the_subject_s_buckets(table: Database) -> None:
    with_months(table, more=", scope => 'subject', scope_column => 'person', erased => 'null'")
    table.sql("CALL envelope.shred('t', 'alice', 'ticket 1')")
    assert table.sql("SELECT id FROM t WHERE born_range <@ daterange(NULL, NULL) AND id < 10") == [(2,)]
    assert table.sql("SELECT id FROM t_encrypted WHERE born_range IS NULL ORDER BY id") == [(1,), (3,)]


def test_protect_online_and_unprotect(table: Database) -> None:
    with_months(table, more=", online => true")
    table.sql("INSERT INTO t VALUES (4, 'x', '1990-02-19')")
    assert sorted(table.sql(FOUND)) == [(1,), (4,)]
    assert INDEX in plan(table.admin, FOUND)
    table.sql("CALL envelope.unprotect('t')")
    assert table.one("SELECT count(*) FROM t WHERE born = '1990-02-19'") == 1


def test_two_tables_share_a_key_and_a_not_null_column_is_searched(table: Database) -> None:
    table.sql("CREATE TABLE u (id int PRIMARY KEY, born date NOT NULL); INSERT INTO u VALUES (7, '1990-02-14')")
    shared = MONTHS[:-2] + ', "key": "births"}}'
    for name in ("t", "u"):
        table.sql(f"""CALL envelope.protect('{name}', '{{"born": {{"search": {shared}}}}}')""")
    assert table.sql("SELECT id FROM u WHERE born_range <@ daterange('1990-02-10', NULL)") == [(7,)]
    with pytest.raises(psycopg.Error):
        table.sql("INSERT INTO u VALUES (8, NULL)")
    table.sql("CALL envelope.rotate_search('u', 'born')")
    assert table.sql(FOUND) == [(1,)]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("date", "{}"),
        ("date", '{"bucket": "week"}'),
        ("date", '{"bucket": 1000}'),
        ("int", '{"bucket": "month"}'),
        ("int", '{"bucket": 0}'),
        ("int", '{"bucket": -5}'),
        ("int", '{"bucket": 1e30}'),
        ("int", '{"bucket": 1e-30}'),
        ("int", '{"bucket": true}'),
        ("int", '{"bucket": "NaN"}'),
        ("int", '{"bucket": "1 OR 1"}'),
        ("int", '{"bucket": 10, "unique": true}'),
        ("int", '{"bucket": 10, "normalize": "exact"}'),
        ("real", '{"bucket": 10}'),
        ("text", '{"bucket": 10}'),
        ("time", '{"bucket": "day"}'),
        ("interval", '{"bucket": "day"}'),
        ("bool", '{"bucket": 1}'),
        ("uuid", '{"bucket": "day"}'),
        ("int[]", '{"bucket": 10}'),
        ("daterange", '{"bucket": "day"}'),
    ],
)
def test_what_has_no_buckets_is_refused(shared_db: Database, kind: str, options: str) -> None:
    shared_db.sql(f"DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, v {kind})")
    with pytest.raises(psycopg.Error) as refused:
        shared_db.sql(f"""CALL envelope.protect('t', '{{"v": {{"search": {{"range": {options}}}}}}}')""")
    assert refused.value.sqlstate in ("22023", "0A000")
    assert refused.value.diag.message_hint


def test_a_unique_column_has_an_exact_search_first(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, v int UNIQUE); INSERT INTO t VALUES (1, 5)")
    with pytest.raises(psycopg.Error):
        db.sql("""CALL envelope.protect('t', '{"v": {"search": {"range": {"bucket": 10}}, "unique": true}}')""")
    db.sql("""CALL envelope.protect('t', '{"v": {"search": ["exact", {"range": {"bucket": 10}}], "unique": true}}')""")
    assert db.sql("SELECT id FROM t WHERE v_search = 5 AND v_range <@ int4range(0, 10)") == [(1,)]
    with pytest.raises(psycopg.errors.UniqueViolation):
        db.sql("INSERT INTO t VALUES (2, 5)")


def test_the_advice_looks_at_buckets(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, born date)")
    db.sql("INSERT INTO t SELECT i, date '1960-01-01' + i * 5 FROM generate_series(1, 2000) i")
    told = "verdict, different_values, read_share < 0.05, advice LIKE '%buckets%'"
    ask = f"SELECT {told} FROM envelope.search_advice('t', 'born', '{{}}')"
    assert db.sql(ask.format("range-day")) == [("FINE", 2000, True, True)]
    assert db.sql(ask.format("range-month"))[0][1] == 329
    db.sql("UPDATE t SET born = date '1990-01-01' + id % 100")
    assert db.sql(ask.format("range-month")) == [("REFUSE", 4, False, True)]
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        db.sql("""CALL envelope.protect('t', '{"born": {"search": {"range": {"bucket": "month"}}}}')""")
    assert "4 different buckets" in (refused.value.diag.message_detail or "")
    with_months(db)


def test_a_restored_database_searches(
    table: Database, other_cluster: Cluster, empty_database: Callable[[str], str], tmp_path: Path
) -> None:
    table.sql("GRANT SELECT ON t TO alice")
    with_months(table)
    run(table.stack.cluster, table.name, "pg_dump", "--format=custom", "--file", tmp_path / "dump")
    name = empty_database("ranged")
    run(other_cluster, name, "pg_restore", "--single-transaction", "--dbname", name, tmp_path / "dump")
    with other_cluster.connect(name) as connection:
        connection.execute("SELECT envelope.this_is_the_original()")
        connection.execute("INSERT INTO t VALUES (4, 'x', '1990-02-19'); ANALYZE t_encrypted")
        assert sorted(connection.execute(FOUND).fetchall()) == [(1,), (4,)]
        assert INDEX in plan(connection, FOUND)
    with other_cluster.connect(name, "alice") as alice:
        assert sorted(alice.execute(FOUND).fetchall()) == [(1,), (4,)]
