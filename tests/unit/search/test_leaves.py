"""A value has each leaf of what it contains, and equal values have equal leaves."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope import errors, leaf_paths, leaves
from pg_envelope.tokens import TokenKey

MANY = 400
scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", 'b"', "c\\", "[]", ".", "=", "é"])
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "", '"=']), inner, max_size=3)
    ),
)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Any, Any]:
    """A value, and one that it contains."""
    value = draw(values)
    return value, _part(draw, value)


def _part(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _part(draw, inner) for key, inner in value.items() if draw(st.booleans())}
    if isinstance(value, list):
        return [_part(draw, inner) for inner in draw(st.permutations(value)) if draw(st.booleans())]
    return value


@given(pairs())
def test_a_value_has_the_leaves_of_its_part(pair: tuple[Any, Any]) -> None:
    value, part = pair
    assert leaves.of_part(json.dumps(part)) <= (leaves.of_value(json.dumps(value), MANY) or set())


PATHS = st.lists(st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=3).map(tuple), min_size=1).map(tuple)


@given(pairs(), PATHS)
def test_paths_keep_the_leaves_that_both_have_there(pair: tuple[Any, Any], paths: tuple[tuple[str, ...], ...]) -> None:
    value, part = map(json.dumps, pair)
    kept, every = leaves.of_value(value, MANY, paths) or set(), leaves.of_value(value, MANY) or set()
    assert leaves.of_part(part, paths) <= kept <= every
    assert leaves.of_part(part, paths) <= leaves.of_part(part)
    assert all(any(f'"{path[-1]}"' in leaf for path in paths) for leaf in kept)


@pytest.mark.parametrize(
    ("paths", "name"),
    [
        (["b", "a.c", "b"], "contains-a.c,b/1"),
        (["A_1"], "contains-A_1/1"),
    ],
)
def test_the_name_of_paths(paths: list[str], name: str) -> None:
    assert leaf_paths.name_of(paths) == name
    assert leaf_paths.of_name(name) == tuple(tuple(path.split(".")) for path in sorted(set(paths)))


@given(
    st.lists(st.text(max_size=4), max_size=4)
    | st.text()
    | st.none()
    | st.lists(st.integers() | st.just("a"), min_size=1)
)
def test_paths_have_a_name_or_are_refused(paths: Any) -> None:
    try:
        name = leaf_paths.name_of(paths)
    except errors.BadInput:
        return
    assert leaf_paths.of_name(name) == tuple(sorted({tuple(path.split(".")) for path in paths}, key=".".join))


@given(st.lists(scalars, min_size=1, max_size=4))
def test_an_array_contains_an_element_that_stands_alone(elements: list[Any]) -> None:
    found = leaves.of_value(json.dumps(elements), MANY)
    assert found is not None
    assert all(leaves.of_part(json.dumps(one)) <= found for one in elements)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ('{"a": [1, {"b": "x"}]}', {"={}", '."a"=[]', '."a"[]=1', '."a"[]={}', '."a"[]."b"="x"'}),
        ('"x"', {'="x"'}),
        ('["x", null]', {"=[]", '[]="x"', '="x"', "[]=null", "=null"}),
        ('[["x"]]', {"=[]", "[]=[]", '[][]="x"'}),
        ("1.500", {"=1.5"}),
        ("100", {"=100"}),
        ("0.00", {"=0"}),
        ("-7.0", {"=-7"}),
        ('{"a\\"=": true}', {"={}", '."a\\"="=true'}),
        ('"1"', {'="1"'}),
        ("1" + "0" * 9000, {"=1" + "0" * 9000}),
    ],
)
def test_leaves(value: str, found: set[str]) -> None:
    assert leaves.of_value(value, MANY) == found


def test_a_part_gives_the_inner_leaves_alone() -> None:
    assert leaves.of_part('{"a": {"b": 1, "c": {}}, "d": []}') == {'."a"."b"=1', '."a"."c"={}', '."d"=[]'}
    assert leaves.of_part("{}") == {"={}"}


def test_too_many_or_too_deep() -> None:
    assert leaves.of_value(json.dumps(list(range(300))), MANY) is None
    assert leaves.of_value("[" * 101 + "]" * 101, MANY) is not None
    assert leaves.of_value("[" * 102 + "]" * 102, MANY) is None
    assert leaves.of_part("[" * 101 + "]" * 101) == {"[]" * 100 + "=[]"}
    with pytest.raises(errors.BadInput):
        leaves.of_part("[" * 102 + "]" * 102)
    assert leaves.of_value("[" * 100_000 + "]" * 100_000, MANY) is None
    with pytest.raises(errors.BadInput):
        leaves.of_part("[" * 100_000 + "]" * 100_000)


def test_the_worked_example() -> None:
    found = leaves.of_value('{"a": [1.50, "x"]}', MANY)
    assert found == {"={}", '."a"=[]', '."a"[]=1.5', '."a"[]="x"'}
    assert TokenKey(bytes(range(32))).grams(found, "contains/1") == [176491210, 1821526607, 2905748381, 3872251350]
