"""A jsonb is found by what it contains: by the index, and with its own condition exactly as on the plain table."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fix_stack import Database, Fill
from tests.integration.search.fix_users import plan

SEARCH = '{"contains": {"force": true}}'
PROTECT = f"""CALL envelope.protect('t', '{{"notes": {{"search": {SEARCH}}}}}')"""
VALUES = [
    '{"city": "Bern", "tags": ["a", "b"], "size": 1.50, "home": {"zip": "3000", "none": {}}}',
    '{"city": "Bonn", "tags": [["a"], {"b": 1}], "size": 1.5}',
    '["a", 1, null, true, {"city": "Bern"}]',
    '"a"',
    "1.0",
    "null",
    "{}",
    "[]",
    "[[]]",
    '{"a": {"b": {"c": [1, [2, [3]]]}}}',
    '{"": "", "\\"": "\\\\", "é": "\\u00e9"}',
    json.dumps({"many": list(range(500)), "city": "Bern"}),
    None,
]
scalars = st.none() | st.booleans() | st.sampled_from(["a", "b", "Bern", "", "é", "\\", 1, 1.5, 1.0, 1e2, -0.0, 3])
keys = st.sampled_from(["city", "tags", "a", "b", "c", "", '"', "many", "home", "none"])
needles = st.recursive(scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=2))
BERN = """SELECT id FROM t WHERE notes_contains @> '{"city": "Bern"}' AND notes @> '{"city": "Bern"}' ORDER BY id"""
INDEX = "t_notes_contains_idx"


def fill(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, person name NOT NULL, notes jsonb)")
    for number, value in enumerate(VALUES):
        db.admin.execute("INSERT INTO t VALUES (%s, %s, %s)", (number, "alice" if number == 0 else "bob", value))
    db.sql(
        "INSERT INTO t SELECT i, 'bob', jsonb_build_object('city', 'Town ' || i, 'n', i)"
        " FROM generate_series(100, 900) i"
    )
    db.sql("CREATE TABLE twin AS TABLE t")


def fill_protected(db: Database) -> None:
    fill(db)
    db.sql(PROTECT)
    db.sql("ANALYZE t_encrypted")


@pytest.fixture
def table(db: Database) -> Database:
    fill(db)
    return db


@pytest.fixture
def protected(filled: Callable[[Fill], Database]) -> Database:
    """A copy, for tests that destroy no key."""
    made = filled(fill_protected)
    made.sql("SET enable_seqscan = off")
    return made


def test_both_conditions_find_what_the_plain_table_finds(protected: Database) -> None:
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(needles | st.sampled_from([json.loads(value) for value in VALUES if value]))
    def compared(needle: Any) -> None:
        text = json.dumps(needle)
        expected = found(protected, "SELECT id FROM twin WHERE notes @> %(needle)s", text)
        candidates = found(protected, "SELECT id FROM t WHERE notes_contains @> %(needle)s", text)
        both = found(protected, "SELECT id FROM t WHERE notes_contains @> %(needle)s AND notes @> %(needle)s", text)
        assert set(candidates) >= set(expected)
        assert both == expected

    compared()


def found(table: Database, query: str, needle: str) -> list[int]:
    query = query.replace("%(needle)s", "%(needle)s::text::jsonb") + " ORDER BY id"
    return [number for (number,) in table.admin.execute(query, {"needle": needle})]  # type: ignore[arg-type]


OF_PATHS = '{"contains": {"paths": ["city", "home.zip", "a.b", "tags"], "force": true}}'


def test_with_paths_a_search_finds_what_it_can_and_refuses_the_rest(table: Database) -> None:
    table.sql(f"""CALL envelope.protect('t', '{{"notes": {{"search": {OF_PATHS}}}}}')""")
    table.sql("ANALYZE t_encrypted; SET enable_seqscan = off")
    outcomes = set()

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(needles | st.sampled_from([json.loads(value) for value in VALUES if value]))
    def compared(needle: Any) -> None:
        text = json.dumps(needle)
        try:
            both = found(table, "SELECT id FROM t WHERE notes_contains @> %(needle)s AND notes @> %(needle)s", text)
        except psycopg.errors.InvalidParameterValue as refused:
            outcomes.add(refused.diag.message_primary)
            return
        outcomes.add("found")
        assert both == found(table, "SELECT id FROM twin WHERE notes @> %(needle)s", text)

    compared()
    assert outcomes == {"pg_envelope: the value has nothing at the paths of this search column", "found"}
    assert INDEX in plan(table.admin, BERN)
    assert table.sql(BERN) == [(0,), (11,)], "a row with 500 other elements has few at the paths"
    assert table.sql("SELECT id FROM t_encrypted WHERE notes_contains::text = '0'") == []
    table.sql("CALL envelope.verify('t')")
    assert table.sql("SELECT reason FROM envelope.faults") == []


def test_paths_are_changed_while_the_table_is_in_use(protected: Database) -> None:
    for paths in ("contains-city", "contains-home.zip,city", "contains"):
        protected.sql("CALL envelope.rotate_search('t', 'notes', normalizer => %s)", paths)
        assert protected.sql(BERN) == [(0,), (11,)]
    protected.sql("CALL envelope.rotate_search('t', 'notes', normalizer => 'contains-n')")
    protected.sql("CALL envelope.rotate_search('t', 'notes')")
    assert protected.one("SELECT normalizer FROM envelope.searches") == "contains-n/1"
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="nothing at the paths"):
        protected.sql(BERN)
    assert protected.sql("""SELECT id FROM t WHERE notes_contains @> '{"n": 100}' AND notes @> '{"n": 100}'""") == [
        (100,)
    ]


def test_the_index_serves_each_form(protected: Database) -> None:
    protected.sql("PREPARE p (jsonb) AS SELECT id FROM t WHERE notes_contains @> $1 AND notes @> $1 ORDER BY id")
    protected.sql("SET plan_cache_mode = force_generic_plan")
    joined = (
        "SELECT t.id FROM (VALUES ('Bern')) v (city) JOIN t ON notes_contains @> jsonb_build_object('city', v.city)"
    )
    for query in (BERN, """EXECUTE p('{"city": "Bern"}')""", joined + " ORDER BY t.id"):
        assert INDEX in plan(protected.admin, query), query
        assert protected.sql(query) == [(0,), (11,)], query


def test_no_text_of_it_is_shown_and_it_has_no_other_operator(protected: Database) -> None:
    assert protected.sql("SELECT notes_contains::text FROM t WHERE id = 0") == [("",)]
    for forged in (
        "notes_contains = '1'",
        "notes_contains @> '{'",
        "notes_contains ? 'city'",
        "notes_contains -> 'city' IS NULL",
        "notes_contains <@ '{}'",
        "notes_contains OPERATOR(envelope_compare.@>) '1'",
        "NOT notes_contains @> '{}'",
    ):
        with pytest.raises(psycopg.Error):
            protected.sql(f"SELECT id FROM t WHERE {forged}")


def test_deep_and_long_values_are_written_and_found(protected: Database) -> None:
    deep = "'[' || repeat('[', 3000) || repeat(']', 3000) || ']'"
    protected.sql(
        f"INSERT INTO t VALUES (50, 'x', ({deep})::jsonb),"
        " (51, 'x', jsonb_build_object('city', repeat('Bern', 100000)))"
    )
    assert protected.sql("""SELECT id FROM t WHERE notes_contains @> '[[[]]]' AND notes @> '[[[]]]'""") == [(50,)]
    long = "jsonb_build_object('city', repeat('Bern', 100000))"
    assert protected.sql(f"SELECT id FROM t WHERE notes_contains @> {long} AND notes @> {long}") == [(51,)]
    with pytest.raises(psycopg.errors.InvalidParameterValue) as refused:
        protected.sql(f"SELECT id FROM t WHERE notes_contains @> ({deep})::jsonb")
    assert refused.value.diag.message_hint


def test_a_change_a_new_key_and_verify(protected: Database) -> None:
    protected.sql("""UPDATE t SET notes = jsonb_set(notes, '{city}', '"Bern"') WHERE id = 1""")
    protected.sql("CALL envelope.rotate_search('t', 'notes')")
    assert protected.sql(BERN) == [(0,), (1,), (11,)]
    assert INDEX in plan(protected.admin, BERN)
    protected.sql("CALL envelope.verify('t')")
    assert protected.sql("SELECT reason FROM envelope.faults") == []
    protected.sql(
        "UPDATE t_encrypted SET notes_contains = (SELECT notes_contains FROM t_encrypted WHERE id = 2) WHERE id = 1"
    )
    protected.sql("CALL envelope.verify('t')")
    assert protected.sql("SELECT reason FROM envelope.faults") == [("wrong token",)]


def test_add_drop_and_protect_online(table: Database) -> None:
    table.sql(PROTECT[:-1] + ", online => true)")
    assert table.sql(BERN) == [(0,), (11,)]
    table.sql("CALL envelope.drop_search('t', 'notes')")
    table.sql(f"CALL envelope.add_search('t', 'notes', '{SEARCH}')")
    assert table.sql(BERN) == [(0,), (11,)]
    table.sql("CALL envelope.unprotect('t')")
    assert table.sql("TABLE t EXCEPT TABLE twin") == []


def test_who_searches_without_reading_and_what_shred_clears(table: Database) -> None:
    table.sql(PROTECT[:-1] + ", scope => 'subject', scope_column => 'person', erased => 'null')")
    table.sql("SELECT envelope.grant_search('t', 'notes', 'alice'); GRANT SELECT (id) ON t TO alice")
    candidates = """SELECT id FROM t WHERE notes_contains @> '{"city": "Bern"}' AND id < 5"""
    assert table.sql(candidates, user="alice") == [(0,)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        table.sql(BERN, user="alice")
    table.sql("CALL envelope.shred('t', 'alice', 'ticket 1')")
    assert table.sql(candidates) == []
    assert table.sql("SELECT id FROM t_encrypted WHERE notes_contains IS NULL ORDER BY id") == [(0,), (12,)]


@pytest.mark.parametrize(
    ("kind", "search"),
    [
        ("text", '"contains"'),
        ("json", '"contains"'),
        ("int", '"contains"'),
        ("jsonb", '"exact"'),
        ("jsonb", '"match"'),
        ("jsonb", '{"exact": {"normalize": "contains"}}'),
        ("jsonb", '{"range": {"bucket": 10}}'),
        ("jsonb", '{"contains": {"unique": true}}'),
    ],
)
def test_what_cannot_be_searched_so_is_refused(shared_db: Database, kind: str, search: str) -> None:
    shared_db.sql(f"DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, v {kind})")
    with pytest.raises(psycopg.Error) as refused:
        shared_db.sql(f"""CALL envelope.protect('t', '{{"v": {{"search": {search}}}}}')""")
    assert refused.value.sqlstate in ("22023", "0A000")


def test_an_index_on_a_jsonb_is_dropped_where_that_is_asked_for(table: Database) -> None:
    table.sql("CREATE INDEX by_notes ON t (notes); CREATE INDEX by_part ON t USING gin (notes)")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        table.sql(PROTECT)
    table.sql(f"""CALL envelope.protect('t', '{{"notes": {{"search": {SEARCH}, "index": "drop"}}}}')""")
    assert table.sql(BERN) == [(0,), (11,)]
    table.sql("CALL envelope.unprotect('t')")
    assert table.one("SELECT count(*) FROM pg_indexes WHERE indexname LIKE 'by_%'") == 2


def test_the_advice_warns(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, v jsonb)")
    db.sql("INSERT INTO t SELECT i, to_jsonb(i) FROM generate_series(1, 2000) i")
    assert db.sql("SELECT verdict FROM envelope.search_advice('t', 'v', 'contains')") == [("WARN",)]
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        db.sql("SELECT verdict FROM envelope.search_advice('t', 'v')")
