"""Limits of reads: no user gets more than the limit in any time of its length."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pg_envelope.broker.ledger import limits
from pg_envelope.broker.ledger.limits import ReadLimit, ReadLimits

ASKS = st.lists(st.tuples(st.floats(0, 30), st.integers(1, 20), st.sampled_from("ab")), max_size=60)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(rows=st.integers(1, 50), seconds=st.integers(1, 40), asks=ASKS)
def test_no_window_has_more_than_the_limit(rows: int, seconds: int, asks: list[tuple[float, int, str]]) -> None:
    clock = Clock()
    found, given = ReadLimits(clock), []
    for pause, wanted, user in asks:
        clock.now += pause
        granted = found.ask("field", user, ReadLimit(rows, seconds, True), wanted).amount
        assert 0 <= granted <= wanted
        given.append((clock.now, user, granted))
    for start, user, _ in given:
        within = sum(count for time, other, count in given if other == user and start <= time < start + seconds)
        assert within <= rows


@given(rows=st.integers(1, 50), asks=ASKS)
def test_an_alarm_grants_all_and_is_told_once_a_window(rows: int, asks: list[tuple[float, int, str]]) -> None:
    clock = Clock()
    found, told = ReadLimits(clock), []
    for pause, wanted, _ in asks:
        clock.now += pause
        granted = found.ask("field", "a", ReadLimit(rows, 10, False), wanted)
        assert granted.amount == wanted
        told += [clock.now] if granted.is_new else []
    assert all(later - earlier >= 10 for earlier, later in pairwise(told))
    assert bool(told) or sum(wanted for _, wanted, _ in asks) <= rows or len(asks) > 1


def test_other_columns_and_users_have_windows_of_their_own() -> None:
    found, limit = ReadLimits(Clock()), ReadLimit(5, 60, True)
    assert [found.ask("f", user, limit, 5).amount for user in "abab"] == [5, 5, 0, 0]
    assert found.ask("g", "a", limit, 9).amount == 5


def test_the_least_used_window_makes_room() -> None:
    found, limit = ReadLimits(Clock()), ReadLimit(1, 60, True)
    for number in range(limits.MOST + 1):
        assert found.ask("f", str(number), limit, 1).amount == 1
    assert found.ask("f", "0", limit, 1).amount == 1
    assert found.ask("f", str(limits.MOST), limit, 1).amount == 0
