"""What PostgreSQL writes for a function in FROM follows the search columns of its row type, and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope.backend.sqltext import commas, ident
from pg_envelope.backend.tables.dependents.dependent import Dependent
from pg_envelope.backend.tables.dependents.row_columns import gaining, losing
from pg_envelope.records import dataclass

PLAIN = st.from_regex(r"[a-zä_][a-zä0-9_$]{0,8}", fullmatch=True)
NAMES = PLAIN | st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6).map(ident)
LISTS = st.lists(NAMES, min_size=1, max_size=5)


@dataclass(frozen=True)
class View(Dependent):
    @property
    def leaves(self) -> str:
        raise NotImplementedError


def text(made: list[Dependent]) -> str:
    (one,) = made
    return one.text


def view(query: str) -> list[View]:
    return [View("view v", 10, "public", query)]


@given(NAMES, LISTS, st.lists(PLAIN, min_size=1, max_size=3, unique=True))
def test_ordinality_stays_the_last_column(alias: str, columns: list[str], searches: list[str]) -> None:
    before = f" SELECT x.a FROM public.f(1) WITH ORDINALITY {alias}({commas(columns)}, ordinality), g(2) y"
    between = commas(map(ident, searches))
    wider = f" SELECT x.a FROM public.f(1) WITH ORDINALITY {alias}({commas(columns)}, {between}, ordinality), g(2) y"
    assert text(gaining(view(before), len(columns), searches)) == wider
    assert text(losing(view(wider), len(columns), searches)) == before


@given(NAMES, LISTS, st.lists(PLAIN, min_size=1, max_size=3, unique=True), st.sampled_from(["", "_1", "_27"]))
def test_search_columns_leave_a_list_of_columns(alias: str, columns: list[str], searches: list[str], mark: str) -> None:
    written = commas([*columns, *(f"{name}{mark}" for name in searches)])
    wide, narrow = (f"FROM f() {alias}({names}) WHERE true" for names in (written, commas(columns)))
    assert text(losing(view(wide), len(columns), searches)) == narrow
    assert text(losing(view(wide), len(columns), [])) == wide


@pytest.mark.parametrize(
    "query",
    [
        "SELECT g(a, b, a_search) FROM t",
        "SELECT (x) IN (a, b, a_search) FROM t",
        "SELECT 1 FROM f() x(a, b, other)",
        "SELECT 1 FROM f() x(a, a_search)",
        "SELECT 1 FROM f() x(a, b, c, a_search)",
    ],
)
def test_other_lists_stay(query: str) -> None:
    assert text(losing(view(query), 2, ["a_search"])) == query
    assert text(gaining(view(query), 2, ["a_search"])) == query
