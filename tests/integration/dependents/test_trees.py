"""Random trees of views, materialized views and functions over a table come back alike, and answer alike throughout."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fix_stack import Database
from tests.integration.dependents.fix_facts import digest, dump, facts
from tests.integration.sql.conftest import shared_db

__all__ = ["shared_db"]

COLUMNS = ("id", "a", "b", "c")
TABLE = """
CREATE SCHEMA {0} AUTHORIZATION owner; SET search_path = {0};
GRANT USAGE, CREATE ON SCHEMA {0} TO alice, bob;
CREATE TABLE t (id int PRIMARY KEY, a text COLLATE "C", b int, c date);
INSERT INTO t SELECT n, nullif('v' || n % 4, 'v2'), n % 3, date '2000-02-28' + n FROM generate_series(1, 12) n;
ALTER TABLE t OWNER TO owner; GRANT ALL ON t TO alice WITH GRANT OPTION;
GRANT SELECT ON t TO bob;
"""
NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Relation:
    """Something to select from; `source` is its text in FROM. `values`: some of them may be of protected columns."""

    name: str
    source: str
    columns: tuple[str, ...]
    values: bool


QUERIES = {
    "some": "SELECT {x} AS n0, {y} AS n1 FROM {s} s",
    "filter": "SELECT {y} AS n0, {x} AS n1 FROM {s} s WHERE {x} IS NOT NULL",
    "group": "SELECT {x} AS n0, count(*) AS n1 FROM {s} s GROUP BY {x}",
    "join": "SELECT {x} AS n0, {z} AS n1 FROM {s} s LEFT JOIN {r} r ON {x}::text = {z}::text",
    "union": "SELECT {x}::text AS n0, 1 AS n1 FROM {s} s UNION ALL SELECT {z}::text, 2 FROM {r} r",
    "rank": "SELECT {x} AS n0, rank() OVER (PARTITION BY {y}::text ORDER BY {x}::text) AS n1 FROM {s} s",
    "largest": "SELECT {x} AS n0, (SELECT max({z}::text) FROM {r} r WHERE {y} IS NOT NULL) AS n1 FROM {s} s",
    "star": "WITH s AS (SELECT * FROM {s} s) SELECT {x} AS n0, {y} AS n1 FROM s",
    "whole": "SELECT to_jsonb(s) AS n0, s IS NULL AS n1 FROM {s} s",
    "lateral": "SELECT {x} AS n0, l.n1 FROM {s} s, LATERAL (SELECT count(*) AS n1 FROM {r} r WHERE {y} IS NULL) l",
}
OPTIONS = (
    "",
    "WITH (security_barrier)",
    "WITH (security_invoker)",
    "WITH (security_barrier, security_invoker = false)",
)


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[str], list[str], list[str]]:
    """Protected columns, the statements that make a tree, and the relations to read."""
    protected = draw(st.lists(st.sampled_from(COLUMNS[1:]), min_size=1, unique=True))
    relations = [Relation("t", "t", COLUMNS, values=False)]
    statements: list[str] = []
    for number in range(draw(st.integers(1, 7))):
        made, text = draw(relation(number, relations, protected))
        relations.append(made)
        statements += [f"SET ROLE {draw(st.sampled_from(['alice', 'owner', 'alice', 'postgres']))}", text]
        statements += [f"GRANT SELECT ON {made.name} TO PUBLIC"] if made.source == made.name else []
    return protected, [*statements, "RESET ROLE"], [made.source for made in relations]


@st.composite
def relation(draw: st.DrawFn, number: int, known: list[Relation], protected: list[str]) -> tuple[Relation, str]:
    """A relation over one or two known ones, and the statement that makes it."""
    form = draw(st.sampled_from(sorted(QUERIES)))
    one, other = draw(st.sampled_from(known)), draw(st.sampled_from(known))
    x, y, z = (
        draw(st.sampled_from(one.columns)),
        draw(st.sampled_from(one.columns)),
        draw(st.sampled_from(other.columns)),
    )
    query = QUERIES[form].format(s=one.source, r=other.source, x=f"s.{x}", y=f"s.{y}", z=f"r.{z}")
    used = {x, y} if one.name == "t" else set()
    used |= {z} if other.name == "t" else set()
    values = one.values or other.values or bool(used & set(protected)) or form in ("whole", "star")
    columns = ("n0", "n1")
    kind = draw(st.sampled_from(["VIEW", "VIEW", "function", "made function"] + ["MATERIALIZED VIEW"] * (not values)))
    name = f"x{number}"
    if kind == "function":
        result = "TABLE (n0 text, n1 text) STABLE SECURITY DEFINER"
        text = f"CREATE FUNCTION {name}() RETURNS {result} BEGIN ATOMIC {cast(query)}; END"
        return Relation(name, f"{name}()", columns, values), text
    if kind == "made function":
        text = f"CREATE FUNCTION {name}() RETURNS SETOF t STABLE SECURITY DEFINER BEGIN ATOMIC SELECT * FROM t; END"
        return Relation(name, f"{name}()", COLUMNS, values=True), text
    options = draw(st.sampled_from(OPTIONS)) if kind == "VIEW" else ""
    return Relation(name, name, columns, values), f"CREATE {kind} {name} {options} AS {query}"


def cast(query: str) -> str:
    return f"SELECT q.n0::text, q.n1::text FROM ({query}) q"


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(trees())
def test_a_tree_comes_back_alike(shared_db: Database, tree: tuple[list[str], list[str], list[str]]) -> None:
    db, schema = shared_db, f"g{next(NUMBERS)}"
    protected, statements, relations = tree
    try:
        for statement in [TABLE.format(schema), *statements, f"REVOKE CREATE ON SCHEMA {schema} FROM alice"]:
            db.sql(statement)
        before, values, dumped = facts(db), digest(db, *relations), dump(db, schema)
        db.sql("CALL envelope.protect('t', %s)", json.dumps(protected))
        assert digest(db, *relations) == values
        assert facts(db) == before
        db.sql("CALL envelope.unprotect('t')")
        assert digest(db, *relations) == values
        assert facts(db) == before
        assert dump(db, schema) == dumped
    finally:
        db.sql(f"RESET ROLE; RESET search_path; DROP SCHEMA {schema} CASCADE")
