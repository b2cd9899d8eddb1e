"""Which texts are an INSERT with ON CONFLICT DO NOTHING: PostgreSQL's own grammar decides."""

from __future__ import annotations

import pglast
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pglast import ast
from pglast.visitors import Visitor

from pg_envelope.backend.do_nothing import says_do_nothing

FRAGMENTS = [
    "INSERT INTO c (login) VALUES ('a')",
    'insert into s . "c" values (1)',
    "INSERT INTO other VALUES ('on conflict do nothing')",
    "on conflict do nothing",
    "ON\tCONFLICT -- do update\n DO /* ' */ NOTHING",
    "on conflict (login) do nothing",
    "on conflict do update set login = 'insert'",
    "/* on conflict do nothing */",
    "-- on conflict do nothing\n",
    "returning 'on conflict do nothing'",
    "returning id AS conflict",
    'returning 1 AS "on conflict do nothing"',
    "returning $$ it's $$, $a$ $$ on conflict do nothing $a$",
    "returning E'\\' on conflict do nothing', U&'\\0061', 'a''b'",
    "with x as (",
    ") select * from x",
    "; select 1",
    ";",
    "' on conflict do nothing '",
    "select",
    "é",
    "$1",
    "/* /* nested */ on conflict do nothing */",
]
YES = [
    "insert into c values (1) on conflict do nothing",
    'INSERT INTO "s"."c" AS t VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING id',
    "WITH x AS (INSERT INTO c VALUES ('it''s') ON CONFLICT DO NOTHING RETURNING id) SELECT * FROM x",
    "insert into c values (1) on conflict do nothing; select 1",
    "EXPLAIN ANALYZE INSERT INTO C SELECT E'\\'' ON CONFLICT DO NOTHING",
]
NO = [
    "insert into c values ('on conflict do nothing')",
    "insert into c values (1) /* on conflict do nothing */",
    "insert into c values (1) on conflict (id) do nothing",
    "insert into d values (1) on conflict do nothing",
    'insert into "C" values (1) on conflict do nothing',
    "insert into c values (1); insert into d values (2) on conflict do nothing",
    "insert into c values ('a\\'' on conflict do nothing",
    "insert into c values ('a\\b') on conflict do nothing",
    "select 1",
    "",
    "insert",
    "conflict insert",
]


class Inserts(Visitor):  # type: ignore[misc]
    """Collects the INSERTs of a text: their relation, and whether they are soft without a target."""

    def __init__(self) -> None:
        self.found: list[tuple[str, bool]] = []

    def visit_InsertStmt(self, ancestors: object, node: ast.InsertStmt) -> None:
        clause = node.onConflictClause
        soft = clause is not None and clause.infer is None and clause.action.name == "ONCONFLICT_NOTHING"
        self.found.append((node.relation.relname, soft))


@pytest.mark.parametrize("text", YES)
def test_it_says_so(text: str) -> None:
    assert says_do_nothing(text, "c")


@pytest.mark.parametrize("text", NO)
def test_it_does_not_say_so(text: str) -> None:
    assert not says_do_nothing(text, "c")


@given(st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=7).map(" ".join))
def test_the_grammar_says_so_too(text: str) -> None:
    said = says_do_nothing(text, "c")
    try:
        parsed = pglast.parse_sql(text)
    except pglast.parser.ParseError:
        return
    inserts = Inserts()
    inserts(parsed)
    if said:
        assert inserts.found == [("c", True)]


@given(st.text(alphabet="'\"\\$-/*abE \n\0é1", max_size=40))
def test_any_text_is_read_to_its_end(text: str) -> None:
    assert not says_do_nothing(text, "c")
