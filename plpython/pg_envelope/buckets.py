"""Cuts dates and numbers into buckets, so that a search finds ranges of values: FORMAT.md section 8.2.

A value has one bucket of each width. A range is covered by the widest buckets that lie in it, and by narrower ones at
its ends. So a search asks for few buckets, whatever the range.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from functools import lru_cache
from math import isfinite

from pg_envelope import errors
from pg_envelope.records import dataclass

# For values outside the scale, and those that are infinite. NaN is greater than every other number.
BELOW, ABOVE = "below", "above"
LEAST, GREATEST = ("-infinity", "-Infinity"), ("infinity", "Infinity", "NaN")
SPANS = ("day", "month", "year", "decade")
# Whole decades, so that no bucket is in the scale by half.
FIRST_YEAR, LAST_YEAR = 1500, 2499
# So many widths around 0 are in the scale, in buckets of 1, 10, 100 and 1000 widths.
WIDTHS = 100_000
WIDER = 10
LEVELS = 4
NAME = re.compile(r"range-(day|month|year|\d{1,12}(?:\.\d{1,6})?)/1")
MOMENT = re.compile(r"(\d+)-(\d\d)-(\d\d)(?: (\d\d:\d\d:\d\d(?:\.\d+)?)(?:\+00)?)?( BC)?")
RANGE = re.compile(r'[\[(]("?)(?P<low>[^",]*)\1,("?)(?P<high>[^",]*)\3(?P<end>[\])])')
EMPTY = "empty"


@dataclass(frozen=True)
class InBucket:
    """The index of the narrowest bucket that holds a value. `starts`: the value is the least one of that bucket."""

    index: int
    starts: bool


@dataclass(frozen=True)
class Scale:
    """The buckets of one normaliser. `units` names the widths, the narrowest first.

    Each of `wider` makes, of the index of a bucket, that of the next wider bucket around it. The scale has the
    narrowest buckets from `first` to `last`. `within` finds one, and returns None for a value outside the scale.
    """

    units: tuple[str, ...]
    wider: tuple[Callable[[int], int], ...]
    first: int
    last: int
    within: Callable[[str], InBucket | None]

    def of_value(self, text: str) -> list[str]:
        """Returns the buckets of a value's equality text, the narrowest first."""
        index = self._place(text).index
        if index < self.first:
            return [BELOW]
        if index > self.last:
            return [ABOVE]
        made = [_named(self.units[0], index)]
        for unit, wider in zip(self.units[1:], self.wider, strict=True):
            index = wider(index)
            made.append(_named(unit, index))
        return made

    def of_range(self, text: str, *, of_floats: bool = False) -> list[str]:
        """Returns buckets of which each value in a range has one. The range is given as PostgreSQL writes it, in ISO
        and UTC. With `of_floats` its bounds are rounded, as PostgreSQL rounds a numeric that it compares with a float8.
        """
        if text == EMPTY:
            return []
        found = RANGE.fullmatch(text)
        if found is None:
            raise errors.Internal
        low, high = (_rounded(found[end]) if of_floats else found[end] for end in ("low", "high"))
        first = self._place(low).index if low else self.first - 1
        return list(self._cover(first, self._end(high, excluded=found["end"] == ")")))

    def _end(self, text: str, *, excluded: bool) -> int:
        if not text:
            return self.last + 1
        place = self._place(text)
        return place.index - (excluded and place.starts)

    def _cover(self, low: int, high: int) -> Iterator[str]:
        """Yields the buckets between two of the narrowest, both included."""
        if low < self.first:
            yield BELOW
        if high > self.last:
            yield ABOVE
        low, high = max(low, self.first), min(high, self.last)
        for unit, wider in zip(self.units, self.wider, strict=False):
            while low <= high and wider(low - 1) == wider(low):
                yield _named(unit, low)
                low += 1
            while low <= high and wider(high + 1) == wider(high):
                yield _named(unit, high)
                high -= 1
            if low > high:
                return
            low, high = wider(low), wider(high)
        yield from (_named(self.units[-1], index) for index in range(low, high + 1))

    def _place(self, text: str) -> InBucket:
        if text in LEAST:
            return InBucket(self.first - 1, starts=False)
        if text in GREATEST:
            return InBucket(self.last + 1, starts=False)
        return self.within(text) or InBucket(self.first - 1 if _is_small(text) else self.last + 1, starts=False)


def _rounded(bound: str) -> str:
    """Returns the shortest text of the float8, as PostgreSQL writes values."""
    if not bound or bound in (*LEAST, *GREATEST):
        return bound
    made = float(bound)
    return repr(made) if isfinite(made) else ("-Infinity" if made < 0 else "Infinity")


def _named(unit: str, index: int) -> str:
    return f"{unit} {index}"


def _is_small(text: str) -> bool:
    """Tells on which side of the scale a value outside of it lies."""
    moment = MOMENT.fullmatch(text)
    if moment is None:
        return text.startswith("-")
    return moment[5] is not None or int(moment[1]) < FIRST_YEAR


def named(normalizer: str) -> bool:
    """Tells whether it is the name and version of a normaliser of ranges."""
    found = NAME.fullmatch(normalizer)
    return found is not None and (found[1] in SPANS or found[1] == _written(Decimal(found[1])) != "0")


def is_of_dates(normalizer: str) -> bool:
    found = NAME.fullmatch(normalizer)
    return found is not None and found[1] in SPANS


def width(given: str | int | float) -> str:
    """Returns a bucket as the normaliser's name has it. What is no number stays as it is."""
    text = str(given)
    return _written(Decimal(text)) if re.fullmatch(r"\d+(\.\d+)?", text) else text


def _written(number: Decimal) -> str:
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


@lru_cache(16)
def scale(normalizer: str) -> Scale:
    """Raises Internal for a normaliser that this version of the package does not have."""
    found = NAME.fullmatch(normalizer)
    if found is None or not named(normalizer):
        raise errors.Internal
    return _of_dates(found[1]) if found[1] in SPANS else _of_numbers(Decimal(found[1]))


def _of_dates(narrowest: str) -> Scale:
    level = SPANS.index(narrowest)
    indexed = (date.toordinal, lambda day: _month(day), lambda day: day.year)[level]

    def within(text: str) -> InBucket | None:
        found = MOMENT.fullmatch(text)
        if found is None:
            raise errors.Internal
        if found[5] or not FIRST_YEAR <= int(found[1]) <= LAST_YEAR:
            return None
        day = date(*map(int, found.groups()[:3]))
        index = indexed(day)
        is_midnight = not (found[4] or "").strip("0:.")
        return InBucket(index, starts=is_midnight and indexed(date.fromordinal(day.toordinal() - 1)) < index)

    wider: tuple[Callable[[int], int], ...] = (
        lambda index: _month(date.fromordinal(index)),
        lambda index: index // 12,
        lambda index: index // 10,
    )
    first, last = indexed(date(FIRST_YEAR, 1, 1)), indexed(date(LAST_YEAR, 12, 31))
    return Scale(SPANS[level:], wider[level:], first, last, within)


def _month(day: date) -> int:
    return day.year * 12 + day.month - 1


def _of_numbers(one: Decimal) -> Scale:
    def within(text: str) -> InBucket | None:
        value = Decimal(text)
        # Decimal compares numbers of any length exactly. A quotient of the scale and its product are short.
        if not -WIDTHS * one <= value < WIDTHS * one:
            return None
        index = int(value // one)
        if index * one > value:
            index -= 1
        return InBucket(index, starts=index * one == value)

    units = tuple(_written(one * WIDER**level) for level in range(LEVELS))
    return Scale(units, (lambda index: index // WIDER,) * (LEVELS - 1), -WIDTHS, WIDTHS - 1, within)
