"""What protect() is told about searching: the forms that are taken, and clear errors for all others."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope import errors
from pg_envelope.backend.search.options import SearchWanted, parse

FORMS: list[tuple[object, object, list[SearchWanted]]] = [
    (None, False, []),
    ("exact", False, [SearchWanted("a_search")]),
    (None, True, [SearchWanted("a_search", unique=True)]),
    ([], True, [SearchWanted("a_search", unique=True)]),
    ([], False, []),
    ({"exact": {}}, True, [SearchWanted("a_search", unique=True)]),
    ({"exact": {"normalize": "email", "as": "mail", "key": "k", "unique": True}}, False, [
        SearchWanted("mail", "email/1", "k", True)]),
    (["exact", {"exact": {"normalize": "last4", "as": "a4"}}], False, [
        SearchWanted("a_search"), SearchWanted("a4", "last4/1")]),
    ("match", False, [SearchWanted("a_match", "match/1")]),
    (["exact", {"match": {"as": "parts", "force": True}}], True, [
        SearchWanted("a_search", unique=True), SearchWanted("parts", "match/1", force=True)]),
    ("contains", False, [SearchWanted("a_contains", "contains/1")]),
    ({"contains": {"paths": ["b.c", "a"], "force": True}}, False, [
        SearchWanted("a_contains", "contains-a,b.c/1", force=True)]),
    ({"range": {"bucket": "month"}}, False, [SearchWanted("a_range", "range-month/1")]),
    ({"range": {"bucket": 1000, "as": "r", "key": "k"}}, False, [SearchWanted("r", "range-1000/1", "k")]),
    ({"range": {"bucket": 0.50}}, False, [SearchWanted("a_range", "range-0.5/1")]),
    ({"range": {"bucket": "2.00"}}, False, [SearchWanted("a_range", "range-2/1")]),
]  # fmt: skip
REFUSED: list[tuple[object, object]] = [
    ("fuzzy", False),
    (1, False),
    ({}, False),
    ({"exact": {}, "match": {}}, False),
    ({"exact": "email"}, False),
    ({"exact": {"normalise": "email"}}, False),
    ({"exact": {"normalize": "rot13"}}, False),
    ({"exact": {"unique": 1}}, False),
    (["exact", "exact"], False),
    ("exact", "yes"),
    ([["exact"]], False),
    ("match", True),
    ({"match": {"normalize": "email"}}, False),
    ({"match": {"unique": True}}, False),
    ({"exact": {"normalize": "match"}}, False),
    ("range", False),
    ({"range": {"bucket": "week"}}, False),
    ({"range": {"bucket": 0}}, False),
    ({"range": {"bucket": -1}}, False),
    ({"range": {"bucket": 1e-9}}, False),
    ({"range": {"bucket": 10**13}}, False),
    ({"range": {"bucket": True}}, False),
    ({"range": {"bucket": float("inf")}}, False),
    ({"range": {"bucket": "month/1"}}, False),
    ({"range": {"bucket": 5}}, True),
    ("contains", True),
    ({"contains": {"bucket": 5}}, False),
    *(
        ({"contains": {"paths": paths}}, False)
        for paths in (
            [],
            "a",
            [""],
            ["a."],
            ["."],
            ["a b"],
            ["a/1"],
            ["a,b"],
            ["a'"],
            ["é"],
            [1],
            [["a"]],
            ["a"] * 21,
            {"a": 1},
        )
    ),
    ({"match": {"paths": ["a"]}}, False),
    ({"exact": {"normalize": "contains-a.b"}}, False),
    ({"exact": {"normalize": "range-month"}}, False),
    ({"exact": {"normalize": "contains"}}, False),
]


@pytest.mark.parametrize(("given_search", "unique", "wanted"), FORMS)
def test_a_form_is_taken(given_search: object, unique: object, wanted: list[SearchWanted]) -> None:
    assert list(parse("a", given_search, unique)) == wanted


@pytest.mark.parametrize(("given_search", "unique"), REFUSED)
def test_another_form_is_refused(given_search: object, unique: object) -> None:
    with pytest.raises(errors.BadInput) as caught:
        parse("a", given_search, unique)
    assert caught.value.hint


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["exact", "email", "as", "key"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["exact", "as", "unique"]), inner),
    max_leaves=8,
)


@given(json_values, json_values)
def test_any_json_is_taken_or_refused(search: object, unique: object) -> None:
    with contextlib.suppress(errors.BadInput):
        parse("a", json.loads(json.dumps(search)), unique)
