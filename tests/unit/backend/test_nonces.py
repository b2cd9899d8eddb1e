"""Bytes for nonces: nobody gets the same ones twice, and none are kept for long."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope.backend import nonces
from pg_envelope.backend.nonces import KEPT_SECONDS, Nonces


@given(st.lists(st.integers(12, 24), min_size=1, max_size=200))
def test_no_bytes_are_given_twice(lengths: list[int]) -> None:
    source = Nonces()
    given_out = [source.draw(length) for length in lengths]
    assert [len(part) for part in given_out] == lengths
    # By their beginnings: a longer part that begins as a shorter one would share its bytes.
    assert len({part[:12] for part in given_out}) == len(given_out)


def test_what_was_drawn_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of a virtual machine that goes on later draws anew."""
    now = time.monotonic()
    monkeypatch.setattr(nonces, "monotonic", lambda: now)
    source = Nonces()
    source.draw(12)
    assert (left := source._drawn[12:])
    now += 2 * KEPT_SECONDS
    assert source.draw(12) not in left
