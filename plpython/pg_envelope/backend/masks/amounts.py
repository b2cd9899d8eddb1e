"""Masks of numbers and dates. Each gives a text that the column's type reads, or None."""

from __future__ import annotations

import re
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal

from pg_envelope.backend.masks.texts import Mask
from pg_envelope.hmacs import HashOf, hmac_of

WHOLE = {"int2": 2**15 - 1, "int4": 2**31 - 1, "int8": 2**63 - 1}
FLOATS = {"float4": "3.4e38", "float8": "1.79e308"}
NUMBERS = frozenset((*WHOLE, *FLOATS, "numeric"))
DATES = frozenset(("date", "timestamp", "timestamptz"))
DIGITS = re.compile(r"numeric\((\d+),(-?\d+)\)")
DATE = re.compile(r"(?P<year>\d{4,})-\d\d-\d\d(?P<time> \d\d:\d\d:\d\d(?:\.\d+)?)?(?P<zone>\+00)?(?P<bc> BC)?")
# The first year whose first of January is a date of PostgreSQL.
FIRST_YEAR_BC = 4713
# Digits of a computation beyond those of its numbers.
SPARE_DIGITS = 30


def year(value: str, _: str) -> str | None:
    """Shows the first of January of the year. None where no such date is."""
    found = DATE.fullmatch(value)
    if found is None or (found["bc"] and int(found["year"]) > FIRST_YEAR_BC):
        return None
    return f"{found['year']}-01-01{' 00:00:00' if found['time'] else ''}{found['zone'] or ''}{found['bc'] or ''}"


def bucket(size: Decimal) -> Mask:
    """Shows the multiple of `size` that is next to the value on the side of zero. So it is no greater than the type
    takes.
    """

    def mask(value: str, _: str) -> str | None:
        number = Decimal(value)
        if not number.is_finite():
            return None
        exact = _exact(number, size)
        return _text(exact.subtract(number, exact.remainder(number, size)))

    return mask


def noise(secret: bytes, spread: Decimal, base_type: str, plain_type: str) -> Mask:
    """Shows the value and up to `spread` more or less, within what the type takes.

    Asked again for the same value of a row, it shows the same.
    """
    most, drawn = _most(base_type, plain_type), hmac_of(secret, b"noise\0")
    finest = 0 if base_type in WHOLE else int(spread.as_tuple().exponent)

    def mask(value: str, row_key: str) -> str | None:
        number = Decimal(value)
        if not number.is_finite():
            return None
        exact = _exact(number, spread)
        unit = Decimal((0, (1,), finest if base_type in WHOLE else min(finest, int(number.as_tuple().exponent))))
        shift = exact.quantize(exact.multiply(spread, _share(drawn, value, row_key)), unit)
        shifted = exact.add(number, shift)
        if most is not None and abs(shifted) > most:
            shifted = max(-most, min(most, exact.subtract(number, shift)))
        return _text(shifted)

    return mask


def _share(drawn: HashOf, value: str, row_key: str) -> Decimal:
    """Returns a number from -1 to 1 that only a holder of the secret can tell."""
    about = f"{len(row_key)}:{row_key}{value}".encode()
    return Decimal(int.from_bytes(drawn(about)[:8], "big")) / Decimal(2**63) - 1


def _most(base_type: str, plain_type: str) -> Decimal | None:
    """Returns the greatest number that a type takes; None: it takes every number."""
    if base_type in WHOLE:
        return Decimal(WHOLE[base_type])
    if base_type in FLOATS:
        return Decimal(FLOATS[base_type])
    if found := DIGITS.fullmatch(plain_type):
        digits, scale = map(int, found.groups())
        return Decimal((0, (9,) * digits, -scale))
    return None


def _exact(*numbers: Decimal) -> Context:
    """Returns a context with room for all digits of such numbers."""
    places = sum(abs(number.adjusted()) + len(number.as_tuple().digits) for number in numbers)
    return Context(prec=places + SPARE_DIGITS, Emax=MAX_EMAX, Emin=MIN_EMIN)


def _text(number: Decimal) -> str:
    return format(number, "f")
