"""Batches that are cut into pieces while others wait for their rows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pg_envelope.backend.jobs.throttle import MOST_HALVINGS, QUIET_PIECES, BatchSize


def after(*waited: bool) -> BatchSize:
    size = BatchSize()
    for one in waited:
        size.note(waited=one)
    return size


def count(size: BatchSize) -> int:
    return len(list(size.cut(0, 64)))


@given(st.integers(0, 1000), st.integers(0, 1000), st.lists(st.booleans(), max_size=30))
def test_pieces_are_the_whole_range(first: int, blocks: int, waited: list[bool]) -> None:
    pieces = list(after(*waited).cut(first, first + blocks))
    assert [block for start, end in pieces for block in range(start, end)] == list(range(first, first + blocks))
    assert len(pieces) <= 2**MOST_HALVINGS


def test_pieces_become_smaller_and_larger_again() -> None:
    quiet = [False] * QUIET_PIECES
    assert count(after()) == 1
    assert count(after(True)) == 2
    assert count(after(*[True] * 9)) == 64
    assert count(after(True, True, *quiet)) == 2
    assert count(after(True, *quiet)) == 1
    assert not after(True, *quiet).is_smaller


def test_a_piece_has_fewer_rows_and_one_at_least() -> None:
    assert after().rows(1000) == 1000
    assert after(True).rows(1000) == 500
    assert after(True, True, *[False] * QUIET_PIECES).rows(1000) == 500
    assert after(*[True] * 9).rows(1) == 1
