"""How many keys an application may ask for: its bucket, by a clock that the test moves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope import errors
from pg_envelope.broker.door.rates import BURST_SECONDS, Rate


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.floats(0.1, 1000), st.lists(st.tuples(st.floats(0, 30), st.integers(0, 5000)), max_size=30))
def test_never_more_than_the_rate_and_one_burst(per_second: float, asked: list[tuple[float, int]]) -> None:
    clock, given_out = Clock(), 0
    rate = Rate(per_second, clock)
    for pause, keys in asked:
        clock.now += pause
        try:
            rate.take(keys)
        except errors.Overloaded:
            continue
        given_out += keys
    assert given_out <= max(1.0, per_second * BURST_SECONDS) + per_second * clock.now + 1e-6


def test_a_refused_request_takes_nothing() -> None:
    clock = Clock()
    rate = Rate(1, clock)
    rate.take(10)
    for _ in range(3):
        with pytest.raises(errors.Overloaded):
            rate.take(1)
    clock.now = 1.0
    rate.take(1)
