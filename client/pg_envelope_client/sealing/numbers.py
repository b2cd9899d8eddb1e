"""Writes numbers as PostgreSQL does."""

from __future__ import annotations

import math
import struct
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal, InvalidOperation
from fractions import Fraction

from pg_envelope import errors

# What PostgreSQL's numeric holds: digits before and after the point.
MOST_WHOLE, MOST_SCALE = 131_072, 16_383
EXACT = Context(prec=MOST_WHOLE + MOST_SCALE)
# Beyond these exponents PostgreSQL writes a floating-point number with an `e`.
LEAST, REAL_MOST, DOUBLE_MOST = -4, 6, 15
DOUBLE_DIGITS = 17
SIDES = (ROUND_FLOOR, ROUND_CEILING)


def decimal(sizes: tuple[int, ...], value: object) -> str:
    """The text of a numeric; `sizes` are precision and scale. It rounds as an INSERT does. Raises BadInput."""
    if isinstance(value, bool) or not isinstance(value, Decimal | int):
        raise errors.BadInput("the value does not fit the column: it must be a Decimal or an int")
    number = Decimal(value)
    if not number.is_finite():
        return _not_finite(number, sizes)
    if sizes:
        number = _rounded(number, sizes[0], sizes[1] if len(sizes) > 1 else 0)
    exponent = int(number.as_tuple().exponent)
    if number.adjusted() >= MOST_WHOLE or -exponent > MOST_SCALE:
        raise errors.BadInput("the number is out of the column's range")
    # A zero of numeric has no sign.
    return format(abs(number) if number.is_zero() else number, "f")


def _not_finite(number: Decimal, sizes: tuple[int, ...]) -> str:
    if number.is_nan():
        return "NaN"
    if sizes:
        raise errors.BadInput("the number is out of the column's range")
    return "Infinity" if number > 0 else "-Infinity"


def _rounded(number: Decimal, precision: int, scale: int) -> Decimal:
    try:
        rounded = number.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP, EXACT)
    except InvalidOperation:
        raise errors.BadInput("the number is out of the column's range") from None
    if not rounded.is_zero() and rounded.adjusted() >= precision - scale:
        raise errors.BadInput("the number is out of the column's range")
    return rounded


def double(value: object) -> str:
    """The shortest text that gives the same double again."""
    number = _number(value)
    if special := _special(number):
        return special
    size = abs(number)
    digits = len(Decimal(repr(size)).normalize().as_tuple().digits)
    return _point(_shortest(size, math.nextafter(size, 0), math.nextafter(size, math.inf), digits), number, DOUBLE_MOST)


def real(value: object) -> str:
    """The shortest text that gives the same real again. Raises BadInput for a number that no real can hold."""
    number = _number(value)
    if special := _special(number):
        return special
    size = abs(_single(number))
    if math.isinf(size) or (size == 0 and number != 0):
        raise errors.BadInput("the number is out of the column's range")
    bits = int.from_bytes(struct.pack(">f", size), "big")
    below, above = (_of_bits(max(0, bits + step)) for step in (-1, 1))
    return _point(_shortest(size, below, above, 1), number, REAL_MOST)


def _of_bits(bits: int) -> float:
    return float(struct.unpack(">f", bits.to_bytes(4, "big"))[0])


def _shortest(number: float, below: float, above: float, digits: int) -> Decimal:
    """Returns the decimal of fewest digits, `digits` or more, that lies nearer to `number` than to its neighbours.

    PostgreSQL does not take a decimal halfway between two numbers, which Python's repr takes.
    """
    exact = Fraction(number)
    # Beyond the largest number the distance is that to the one before.
    step = Fraction(above) if math.isfinite(above) else 2 * exact - Fraction(below)
    low, high = (exact + Fraction(below)) / 2, (exact + step) / 2
    for count in range(digits, DOUBLE_DIGITS + 1):
        sides = (Context(prec=count, rounding=side).create_decimal(Decimal(number)) for side in SIDES)
        inside = [one for one in sides if low < Fraction(one) < high or one == exact]
        if inside:
            return min(inside, key=lambda one: (abs(Fraction(one) - exact), one.as_tuple().digits[-1] % 2))
    return Decimal(number)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, float | int):
        raise errors.BadInput("the value does not fit the column: it must be a float")
    return float(value)


def _single(number: float) -> float:
    try:
        return float(struct.unpack("f", struct.pack("f", number))[0])
    except OverflowError:
        return math.inf


def _special(number: float) -> str | None:
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return None


def _point(shortest: Decimal, number: float, most: int) -> str:
    sign = "-" if math.copysign(1, number) < 0 else ""
    found = shortest.normalize()
    exponent = found.adjusted() if found else 0
    if LEAST <= exponent < most:
        return sign + format(found, "f")
    first, *rest = (str(digit) for digit in found.as_tuple().digits)
    return f"{sign}{first}{'.' if rest else ''}{''.join(rest)}e{'+' if exponent > 0 else '-'}{abs(exponent):02d}"
