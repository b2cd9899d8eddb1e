"""Parts of texts are found by the index, and with the value's own condition exactly as on the plain table."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pg_envelope import grams
from tests.fix_stack import Database
from tests.integration.search.fix_users import plan

NAMES = ["Zoë Ångström", "100% sure", "under_score", "back\\slash", "ABAB abab", "ab", "", "İstanbul", "straße"]
PROTECT = """CALL envelope.protect('t', '{"name": {"search": {"match": {"force": true}}}}')"""
letters = st.text(st.sampled_from("abAB%_\\ ëÅrst"), min_size=0, max_size=6)


@pytest.fixture
def table(db: Database) -> Database:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, name text); CREATE TABLE twin (id int PRIMARY KEY, name text)")
    for number, name in enumerate([*NAMES, None]):
        db.admin.execute("INSERT INTO twin VALUES (%s, %s)", (number, name))
    db.sql("INSERT INTO twin SELECT i, 'Value ' || i FROM generate_series(100, 400) i; INSERT INTO t TABLE twin")
    db.sql(PROTECT)
    db.sql("SET enable_seqscan = off")
    return db


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.builds(lambda *p: "".join(p), st.sampled_from(["", "%"]), letters, st.sampled_from(["", "%", "\\%"])))
def test_both_conditions_find_what_the_plain_table_finds(table: Database, pattern: str) -> None:
    for operator in ("LIKE", "ILIKE"):
        try:
            expected = table.admin.execute(f"SELECT id FROM twin WHERE name {operator} %s", (pattern,)).fetchall()  # type: ignore[arg-type]
            query = f"SELECT id FROM t WHERE name_match @> %s AND name {operator} %s"
            found = table.admin.execute(query, (pattern, pattern)).fetchall()  # type: ignore[arg-type]
        except psycopg.errors.Error as error:
            refused = "22025" if pattern.endswith("\\") and error.sqlstate == "22025" else "22023"
            assert error.sqlstate == refused  # noqa: PT017
            assert refused == "22025" or not grams.of_pattern(pattern)
            continue
        assert grams.of_pattern(pattern)
        assert sorted(found) == sorted(expected)


def test_the_index_serves_each_form(table: Database) -> None:
    table.sql("PREPARE p (text) AS SELECT id FROM t WHERE name_match @> $1; SET plan_cache_mode = force_generic_plan")
    for query in ("SELECT id FROM t WHERE name_match @> '%gstr%'", "EXECUTE p('%gstr%')"):
        assert table.sql(query) == [(0,)]
        assert "t_name_match_idx" in plan(table.admin, query)


@pytest.mark.parametrize("pattern", ["", "%", "%ab%", "a%", "%a_b%"])
def test_a_short_pattern_is_refused_without_the_pattern_in_the_error(table: Database, pattern: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue) as caught:
        table.sql(f"SELECT id FROM t WHERE name_match @> '{pattern}'")
    assert caught.value.diag.message_hint


def test_grams_are_not_shown_and_have_no_literals(table: Database) -> None:
    assert table.sql("SELECT name_match::text FROM t WHERE id = 0") == [("",)]
    for forged in ("name_match OPERATOR(envelope_compare.@>) '1'", "name_match::oidvector IS NULL"):
        with pytest.raises(psycopg.Error):
            table.sql(f"SELECT id FROM t WHERE {forged}")


def test_a_change_a_new_key_and_verify(table: Database) -> None:
    table.sql("UPDATE t SET name = 'Entirely new' WHERE id = 0")
    table.sql("CALL envelope.rotate_search('t', 'name')")
    assert table.sql("SELECT id FROM t WHERE name_match @> '%rely n%'") == [(0,)]
    assert "t_name_match_idx" in plan(table.admin, "SELECT id FROM t WHERE name_match @> '%rely n%'")
    table.sql("UPDATE t_encrypted SET name_match = (SELECT name_match FROM t_encrypted WHERE id = 1) WHERE id = 0")
    table.sql("CALL envelope.verify('t')")
    assert table.sql("SELECT reason FROM envelope.faults") == [("wrong token",)]
