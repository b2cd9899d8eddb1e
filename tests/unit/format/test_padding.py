"""PADMÉ padding: FORMAT.md section 1.2."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope import errors, padding

LENGTHS = st.integers(min_value=0, max_value=1 << 40)
CONTENTS = st.binary(max_size=3000) | st.lists(st.sampled_from([b"\x80", b"\0", b"x"])).map(b"".join)


@given(CONTENTS)
def test_what_was_padded_comes_back(content: bytes) -> None:
    assert padding.unpad(padding.pad(content)) == content


@given(CONTENTS)
def test_the_length_is_padme_s(content: bytes) -> None:
    assert len(padding.pad(content)) == padding.padme(len(content) + 1)


@given(LENGTHS, LENGTHS)
def test_lengths_keep_their_order(one: int, other: int) -> None:
    shorter, longer = sorted((one, other))
    assert padding.padme(shorter) <= padding.padme(longer)


@given(LENGTHS)
def test_at_most_twelve_percent_are_added(length: int) -> None:
    assert length <= padding.padme(length) <= length * 1.12


@given(LENGTHS)
def test_a_padded_length_stays(length: int) -> None:
    assert padding.padme(padding.padme(length)) == padding.padme(length)


def test_lengths_of_a_magnitude_become_few() -> None:
    assert len({padding.padme(length) for length in range(1 << 15, 1 << 16)}) == 17


@given(CONTENTS.filter(lambda content: not content.rstrip(b"\0").endswith(b"\x80")))
def test_without_its_mark_it_is_refused(padded: bytes) -> None:
    with pytest.raises(errors.InvalidEnvelope):
        padding.unpad(padded)
