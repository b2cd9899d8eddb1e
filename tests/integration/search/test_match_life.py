"""A match search beside long values, rights, PL/pgSQL, row security, erasure, roll-outs and dumps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from stack.postgres import Cluster
from tests.fix_stack import Database
from tests.integration.operations.fix_clusters import run
from tests.integration.search.fix_users import plan

MATCH = '{"match": {"force": true}}'
# More different parts than a row stores.
LONG = "SELECT string_agg(md5(i::text), ' ') || ' Ångström' FROM generate_series(1, 300) i"
FOUND = "SELECT id FROM t WHERE name_match @> '%gström%' AND name LIKE '%gström%' ORDER BY id"
ALL = "SELECT id FROM t WHERE name_match @> '%gström%' ORDER BY id"


def make(db: Database, before: str = "", more: str = "") -> None:
    """Makes `t`, of which rows 1 and 3 have the part that is looked for, and row 2 belongs to another person."""
    db.sql("CREATE TABLE t (id int PRIMARY KEY, person name NOT NULL, name text)")
    db.sql("INSERT INTO t VALUES (1, 'alice', 'Zoë Ångström'), (2, 'bob', 'Ann Strom'), (3, 'bob', 'Ångström')")
    db.sql("INSERT INTO t SELECT i, 'nobody', 'Value ' || i FROM generate_series(100, 300) i")
    if before:
        db.sql(before)
    db.sql(f"""CALL envelope.protect('t', '{{"name": {{"search": {MATCH}}}}}'{more})""")


def test_a_value_of_too_many_parts_is_written_and_found(db: Database) -> None:
    make(db, before=f"INSERT INTO t VALUES (10, 'x', ({LONG}))")
    db.sql(f"INSERT INTO t VALUES (11, 'x', ({LONG})), (12, 'x', replace(({LONG}), 'Ångström', 'x'))")
    db.sql(f"UPDATE t SET name = ({LONG}) WHERE id = 2")
    every = [(1,), (2,), (3,), (10,), (11,)]
    assert db.sql(FOUND) == every
    assert db.sql(ALL) == sorted([*every, (12,)])
    db.sql("CALL envelope.rotate_search('t', 'name')")
    db.sql(f"CALL envelope.add_search('t', 'name', '{MATCH[:-2]}, \"as\": \"again\"}}}}')")
    db.sql("CALL envelope.verify('t')")
    assert db.sql("SELECT reason FROM envelope.faults") == []
    assert db.sql(FOUND) == every
    assert db.sql(FOUND.replace("name_match", "again")) == every
    db.sql("UPDATE t SET name = 'short' WHERE id IN (10, 11, 12)")
    assert db.sql(ALL) == [(1,), (2,), (3,)]
    db.sql("SET enable_seqscan = off")
    assert "t_name_match_idx" in plan(db.admin, FOUND)


def test_not_before_a_match_is_refused_because_it_would_miss_rows(db: Database) -> None:
    make(db)
    for condition in ("NOT name_match @> '%gström%'", "NOT (name_match @> '%gström%' AND name LIKE '%gström%')"):
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            db.sql(f"SELECT id FROM t WHERE {condition}")


def test_who_searches_without_reading_sees_candidates(db: Database) -> None:
    make(db)
    db.sql("GRANT SELECT (id, name_match) ON t TO alice; GRANT SELECT (id) ON t TO bob")
    assert db.sql(ALL, user="alice") == [(1,), (3,)]
    for user, query in (("alice", FOUND), ("bob", ALL), ("alice", "SELECT name_match::text FROM t_encrypted")):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.sql(query, user=user)


def test_a_function_in_plpgsql_searches_by_a_parameter(db: Database) -> None:
    make(db)
    db.sql(
        "CREATE FUNCTION found(pattern text) RETURNS SETOF int LANGUAGE plpgsql AS 'BEGIN RETURN QUERY SELECT id FROM t"
        " WHERE name_match @> pattern AND name ILIKE pattern ORDER BY id; END'"
    )
    for _ in range(7):
        assert db.sql("SELECT found('%GSTRÖM%')") == [(1,), (3,)]
    assert db.sql("SELECT found(NULL)") == []


def test_row_security_hides_rows_from_a_search(db: Database) -> None:
    make(
        db,
        before="ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON t USING (person = current_user);"
        " GRANT SELECT ON t TO alice, bob",
    )
    assert [db.sql(FOUND, user=user) for user in ("alice", "bob")] == [[(1,)], [(3,)]]
    with db.connect("alice") as alice:
        alice.execute("SET enable_seqscan = off")
        assert "t_name_match_idx" in plan(alice, FOUND)


def test_shred_clears_the_subject_s_grams(db: Database) -> None:
    make(db, more=", scope => 'subject', scope_column => 'person', erased => 'null'")
    db.sql("CALL envelope.shred('t', 'alice', 'ticket 1')")
    assert db.sql(ALL) == [(3,)]
    assert db.sql("SELECT id FROM t_encrypted WHERE name_match IS NULL") == [(1,)]


def test_an_online_protect_makes_a_match_search(db: Database) -> None:
    make(db, more=", online => true")
    db.sql("INSERT INTO t VALUES (4, 'x', 'Angström')")
    assert db.sql(FOUND) == [(1,), (3,), (4,)]
    db.sql("CALL envelope.unprotect('t', online => true)")
    assert db.one("SELECT count(*) FROM t WHERE name LIKE '%gström'") == 3
    assert db.one("SELECT count(*) FROM pg_type WHERE typname LIKE 'match%'") == 0


def test_a_restored_database_searches(
    db: Database, other_cluster: Cluster, empty_database: Callable[[str], str], tmp_path: Path
) -> None:
    make(db, before="GRANT SELECT ON t TO alice")
    run(db.stack.cluster, db.name, "pg_dump", "--format=custom", "--file", tmp_path / "dump")
    name = empty_database("matched")
    run(other_cluster, name, "pg_restore", "--single-transaction", "--dbname", name, tmp_path / "dump")
    with other_cluster.connect(name) as connection:
        connection.execute("SELECT envelope.this_is_the_original()")
        connection.execute("INSERT INTO t VALUES (4, 'x', 'Angström'); SET enable_seqscan = off")
        assert connection.execute(FOUND).fetchall() == [(1,), (3,), (4,)]
        assert "t_name_match_idx" in plan(connection, FOUND)
    with other_cluster.connect(name, "alice") as alice:
        assert alice.execute(FOUND).fetchall() == [(1,), (3,), (4,)]
