"""Vectors of floating-point numbers as bytes, for protected columns of type bytea: FORMAT.md section 13."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterable

from pg_envelope import errors

BYTES = 4
# Where the sign and the first bits of the exponent are.
HIGHEST = 3 if sys.byteorder == "little" else 0
# `array` takes these for numbers of the machine, or each byte for a number.
BYTES_LIKE = (bytes, bytearray, memoryview)


class Vector:
    """A vector of float32 numbers. `bytes(vector)` is what a column of type bytea keeps, 4 bytes a number."""

    __slots__ = ("_numbers",)

    def __init__(self, numbers: Iterable[float]) -> None:
        """Takes finite numbers, and rounds each to float32. Raises BadInput."""
        if isinstance(numbers, BYTES_LIKE):
            raise errors.BadInput("a vector is made of numbers", hint="Vector.read(content) reads bytes.")
        try:
            self._numbers = array("f", numbers)
        except (TypeError, OverflowError):
            raise errors.BadInput("a vector has numbers in the range of float32 only") from None
        _check(self._numbers)

    @classmethod
    def read(cls, content: bytes | memoryview) -> Vector:
        """Returns the vector of a value that was opened, or read through the view. Raises BadInput."""
        whole = bytes(content) if isinstance(content, BYTES_LIKE) else b"-"
        if len(whole) % BYTES:
            raise errors.BadInput("these bytes are no vector", detail="A vector has 4 bytes a number.")
        numbers = array("f", whole)
        _swap(numbers)
        _check(numbers)
        made = cls.__new__(cls)
        made._numbers = numbers
        return made

    def __bytes__(self) -> bytes:
        numbers = self._numbers[:]
        _swap(numbers)
        return numbers.tobytes()

    def __len__(self) -> int:
        return len(self._numbers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vector) and self._numbers == other._numbers

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Tells the length only, because logs show it."""
        return f"Vector({len(self)} numbers)"

    def to_list(self) -> list[float]:
        return self._numbers.tolist()

    def text(self) -> str:
        """Returns the text of a vector of pgvector, or after a replacement of the brackets of a real[]."""
        return f"[{','.join(map(repr, self._numbers))}]"


def _check(numbers: array[float]) -> None:
    """Raises BadInput. Each number is looked at only where the highest byte of one could be that of infinity or NaN."""
    highest = numbers.tobytes()[HIGHEST::BYTES]
    if (b"\x7f" in highest or b"\xff" in highest) and not all(map(math.isfinite, numbers)):
        raise errors.BadInput("a vector has finite numbers only")


def _swap(numbers: array[float]) -> None:
    """The bytes are little-endian on every machine."""
    if sys.byteorder == "big":
        numbers.byteswap()
