"""The verdict on generated distributions whose answer is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope.backend.search.leakage import Group, Leakage, Value, beside, in_buckets, leakage
from pg_envelope.records import replace

ZIPF = [Value(10_000 // rank, 10_000 // rank) for rank in range(1, 200)]


@pytest.mark.parametrize(
    ("values", "verdict", "matched"),
    [
        ([Value(500, 500)], "REFUSE", 1.0),
        ([Value(600, 610), Value(400, 390)], "REFUSE", 1.0),
        ([Value(1, 0)] * 1000 + [Value(0, 1)] * 1000, "FINE", 0.0),
        ([Value(10, 10)] * 100, "FINE", 0.01),
        ([Value(99, 101)] + [Value(1, 1)] * 900, "WARN", None),
        ([Value(50 + n, 50 + n) for n in range(20)], "REFUSE", 1.0),
        ([Value(5, 5)] * 20, "UNKNOWN", 0.05),
        ([], "UNKNOWN", 0.0),
    ],
)
def test_known_answers(values: list[Value], verdict: str, matched: float | None) -> None:
    found = leakage(values)
    assert found.verdict == verdict
    if matched is not None:
        assert found.matched == pytest.approx(matched)


def test_common_names_are_read_and_rare_ones_are_not() -> None:
    """Of a Zipf distribution the places are known down to where counts repeat."""
    found = leakage(ZIPF)
    assert 0.5 < found.matched <= 1.0
    assert found.verdict == "REFUSE"


def test_min_entropy() -> None:
    assert leakage([Value(8, 8)] * 64).entropy == pytest.approx(6.0)
    assert leakage([]).entropy == 0.0


counts = st.lists(st.builds(Value, st.integers(0, 50), st.integers(0, 50)), max_size=60)


@given(counts)
def test_shares_are_shares(values: list[Value]) -> None:
    found = leakage(values)
    assert 0 <= found.matched <= 1.0000001
    assert 0 <= found.top <= 1
    assert "%" in found.sentence or found.verdict == "UNKNOWN"


@given(counts, st.randoms(use_true_random=False))
def test_the_order_of_values_does_not_matter(values: list[Value], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert leakage(shuffled).matched == pytest.approx(leakage(values).matched)


def marginal(groups: list[Group]) -> Leakage:
    """The column alone: the same values in all groups, in one order."""
    columns = zip(*(group.values for group in groups), strict=True)
    return leakage(Value(sum(v.known for v in of), sum(v.attacked for v in of)) for of in columns)


def _same(count: int) -> Value:
    return Value(count, count)


def test_what_one_column_hides_two_may_tell() -> None:
    """Each value is the most common one of one group. Who knows the groups reads all."""
    equal = [
        Group([_same(40 if n == group else 20 + (n - group) % 20) for n in range(20)], True) for group in range(20)
    ]
    alone = marginal(equal)
    assert alone.matched == pytest.approx(1 / 20)
    assert beside("city", alone, equal).matched == pytest.approx(1.0)
    assert beside("city", alone, equal).verdict == "REFUSE"


def test_groups_of_one_size_cannot_be_told_apart() -> None:
    """Then one in twenty groups is matched by chance, and the values in it are read."""
    equal = [Group([_same(40 if n == group else 20 + (n - group) % 20) for n in range(20)]) for group in range(20)]
    assert beside("city", marginal(equal), equal).matched == pytest.approx(1 / 20)


@given(st.lists(st.integers(1, 50), min_size=2, max_size=20), st.integers(2, 20), st.booleans())
def test_an_independent_column_tells_nothing_more(counts: list[int], groups: int, is_seen: bool) -> None:
    made = [Group([_same(count * size) for count in counts], is_seen) for size in range(1, groups + 1)]
    alone = marginal(made)
    assert beside("x", alone, made).matched == pytest.approx(alone.matched)


@given(st.lists(counts, max_size=12), st.booleans())
def test_together_never_tell_less_or_more_than_all(groups: list[list[Value]], is_seen: bool) -> None:
    made = [Group(values, is_seen) for values in groups]
    alone = leakage(value for values in groups for value in values)
    found = beside("x", alone, made)
    assert alone.matched <= found.matched <= 1.0000001
    assert found.alone == alone.matched


def test_parts_of_values_are_never_fine() -> None:
    alone = leakage([Value(1, 0)] * 1000 + [Value(0, 1)] * 1000)
    assert [one.verdict for one in (alone, replace(alone, in_parts=True))] == ["FINE", "WARN"]
    assert "parts" in replace(alone, in_parts=True).sentence


def test_buckets_within_wider_ones_tell_more() -> None:
    """Each month is as common as others of other years. Who matches the years first tells them all."""
    counts = {
        (f"year {year}", f"month {year}.{month}"): month + year % 2 for year in range(2) for month in range(20, 40)
    }
    paths = {path: Value(count, count) for path, count in counts.items()}
    alone = leakage(paths.values())
    found = in_buckets(alone, paths)
    assert alone.matched < 0.6
    assert found.matched == pytest.approx(1.0)
    assert "bucket" in found.sentence
    assert found.verdict == "REFUSE"


def test_equal_buckets_are_told_by_chance() -> None:
    paths = {(f"year {number // 10}", f"month {number}"): Value(5, 5) for number in range(400)}
    found = in_buckets(leakage(paths.values()), paths)
    assert found.matched == pytest.approx(1 / 400)
    assert found.verdict == "FINE"


@given(
    st.dictionaries(
        st.tuples(st.integers(0, 3).map(str), st.integers(0, 9).map(str)),
        st.builds(Value, st.integers(0, 50), st.integers(0, 50)),
    )
)
def test_what_buckets_tell_is_a_share(paths: dict[tuple[str, ...], Value]) -> None:
    alone = leakage(paths.values())
    found = in_buckets(alone, {**paths, ("below",): Value(1, 2)})
    assert alone.matched <= found.matched <= 1.0000001
