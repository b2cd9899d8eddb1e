"""A vector's bytes: little-endian float32, and nothing else is taken."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope import errors
from pg_envelope_client import Vector

NUMBERS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False))


@given(NUMBERS)
def test_the_bytes_are_those_of_the_format(numbers: list[float]) -> None:
    made = Vector(numbers)
    assert bytes(made) == struct.pack(f"<{len(numbers)}f", *numbers)
    assert Vector.read(bytes(made)) == made
    assert (made.to_list(), len(made)) == (numbers, len(numbers))
    assert [float(text) for text in made.text()[1:-1].split(",") if text] == numbers


@given(st.lists(st.floats() | st.integers() | st.text() | st.none(), max_size=4))
def test_what_float32_has_not_is_refused(numbers: list[object]) -> None:
    try:
        made = Vector(numbers)  # type: ignore[arg-type]
    except errors.BadInput as error:
        assert repr(numbers)[1:-1] not in error.message or not numbers  # noqa: PT017
    else:
        assert all(map(math.isfinite, made.to_list()))


@given(st.binary(max_size=20))
def test_bytes_that_are_no_vector(content: bytes) -> None:
    numbers = [] if len(content) % 4 else list(struct.unpack(f"<{len(content) // 4}f", content))
    if len(content) % 4 or not all(map(math.isfinite, numbers)):
        with pytest.raises(errors.BadInput):
            Vector.read(content)
    else:
        assert bytes(Vector.read(content)) == content


def test_it_shows_no_number_in_a_log() -> None:
    assert repr(Vector([1.5, 2.5])) == "Vector(2 numbers)"
    assert Vector([1.0]) != [1.0]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_read_and_make_no_vector_by_themselves(kind: Any) -> None:
    content = bytes(Vector([1.5, 2.5]))
    assert Vector.read(kind(content)).to_list() == [1.5, 2.5]
    for given_bytes in (content, content[:-1], b""):
        with pytest.raises(errors.BadInput, match="made of numbers"):
            Vector(kind(given_bytes))


def test_a_view_of_numbers_is_read_by_its_bytes() -> None:
    numbers = memoryview(bytes(Vector([1.5, 2.5, 3.5]))).cast("f")
    assert Vector.read(numbers).to_list() == [1.5, 2.5, 3.5]


@pytest.mark.parametrize("content", ["text", "", None, 7, [1.5], {1: 2}])
def test_what_is_no_bytes_is_no_vector(content: Any) -> None:
    with pytest.raises(errors.BadInput):
        Vector.read(content)
