"""The verdict on generated distributions whose answer is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope.backend.search.leakage import Value, leakage

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
