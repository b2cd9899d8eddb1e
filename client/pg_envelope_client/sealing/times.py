"""Writes dates and times as PostgreSQL does under DateStyle ISO and in UTC."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import Any

from pg_envelope import errors

MOST_DIGITS = 6
# Values of PostgreSQL that Python has not, by the function that writes the others. They are given and taken as text.
DAY = r"(?:\d{5,7}-\d\d-\d\d{rest}|\d{4,7}-\d\d-\d\d{rest} BC|-?infinity)"
MOMENT = r" \d\d:\d\d:\d\d(?:\.\d{0,5}[1-9])?"
BEYOND = {
    "date": DAY.replace("{rest}", ""),
    "time": "24:00:00",
    "time_zoned": r"24:00:00[+-]\d\d(?::\d\d){0,2}",
    "timestamp": DAY.replace("{rest}", MOMENT),
    "timestamp_zoned": DAY.replace("{rest}", MOMENT + r"\+00"),
}


def written(kind: type, write: Callable[[Any], str], digits: int, value: object) -> str:
    """The text of a date or time; `digits` are those of a second that the column keeps. Raises BadInput."""
    if isinstance(value, str) and re.fullmatch(BEYOND[write.__name__], value):
        return value
    # A datetime is a date to Python, and none to PostgreSQL.
    if type(value) is not kind:
        raise errors.BadInput(f"the value does not fit the column: it must be a {kind.__name__} of datetime")
    if getattr(value, "microsecond", 0) % 10 ** (MOST_DIGITS - digits):
        raise errors.BadInput(f"the column keeps {digits} digits of a second", hint="Round the value first.")
    return write(value)


def read(write: Callable[[Any], str], found: Callable[[str], Any], text: str) -> Any:
    """Returns the date or time of a text. What Python has not stays text, whatever its version takes it for."""
    return text if re.fullmatch(BEYOND[write.__name__], text) else found(text)


def date(value: dt.date) -> str:
    return value.isoformat()


def time(value: dt.time) -> str:
    if value.tzinfo is not None:
        raise errors.BadInput("the column has no time zone, and the value has one")
    return _clock(value)


def time_zoned(value: dt.time) -> str:
    offset = value.utcoffset()
    if offset is None:
        raise errors.BadInput("the column has a time zone, and the value has none")
    seconds = int(offset.total_seconds())
    hours, minutes, rest = abs(seconds) // 3600, abs(seconds) // 60 % 60, abs(seconds) % 60
    parts = [hours, minutes, rest] if rest else [hours, minutes] if minutes else [hours]
    return _clock(value) + ("-" if seconds < 0 else "+") + ":".join(f"{part:02d}" for part in parts)


def timestamp(value: dt.datetime) -> str:
    if value.tzinfo is not None:
        raise errors.BadInput("the column has no time zone, and the value has one")
    return f"{value.date().isoformat()} {_clock(value.time())}"


def timestamp_zoned(value: dt.datetime) -> str:
    if value.utcoffset() is None:
        raise errors.BadInput("the column has a time zone, and the value has none")
    try:
        utc = value.astimezone(dt.UTC)
    except OverflowError:
        raise errors.BadInput("in UTC this time lies outside of what Python knows") from None
    return f"{utc.date().isoformat()} {_clock(utc.time())}+00"


def _clock(value: dt.time) -> str:
    fraction = f".{value.microsecond:06d}".rstrip("0") if value.microsecond else ""
    return f"{value.hour:02d}:{value.minute:02d}:{value.second:02d}{fraction}"
