"""Turns Python values into PostgreSQL's canonical text (FORMAT.md section 1.2), and back.

A type that is not here takes and gives the text itself, exactly as PostgreSQL writes it. Nothing can check it here.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from pg_envelope import errors
from pg_envelope_client.sealing import jsonb, numbers, times

# A name of format_type: the words, the numbers in parentheses, the words behind them.
FORM = re.compile(r"([a-z ]+?)(?:\((-?\d+)(?:,(-?\d+))?\))?( with(?:out)? time zone)?\Z")
SMALL, NORMAL, BIG, OID = (
    (-(1 << 15), (1 << 15) - 1),
    (-(1 << 31), (1 << 31) - 1),
    (-(1 << 63), (1 << 63) - 1),
    (0, (1 << 32) - 1),
)
BOUND, VALUE = "bound", "value"
BYTES = "bytea"


class Codec(NamedTuple):
    """`write` makes the canonical text of a value, and raises BadInput for a value that does not fit. `read` makes the
    value of a text that PostgreSQL or a client wrote. It gives the text itself where Python has no such value.
    """

    write: Callable[[object], str]
    read: Callable[[str], Any]


def codec(type_name: str | None, use: str = VALUE) -> Codec:
    """Returns the codec of a type, by its name as format_type writes it. None stands for text.

    Raises Unsupported for a floating-point type that values are bound to: its text is not one and the same everywhere.
    """
    form = FORM.match(type_name or "text")
    words = (form[1] + (form[4] or "")) if form else ""
    if use == BOUND and words in ("real", "double precision", "jsonb", "json"):
        raise errors.Unsupported(
            f"a client cannot make the row key of a column of type {words}",
            detail="Languages write such a value differently.",
            hint="Write and read this table through its view.",
        )
    sizes = tuple(int(size) for size in (form[2], form[3]) if size is not None) if form else ()
    return TYPES[words](sizes) if words in TYPES else Codec(text, str)


def without_sizes(type_name: str) -> str:
    """Returns the type's name without its length or precision. A name that is not of this form stays."""
    form = FORM.match(type_name)
    return form[1] + (form[4] or "") if form else type_name


def text(value: object) -> str:
    """Takes a text without the byte 00. Raises BadInput."""
    if not isinstance(value, str):
        raise unfit("a text")
    if "\0" in value:
        raise errors.BadInput("a text never holds the byte 00")
    return value


def utf8(value: object) -> str:
    """Takes a text that a name or a context can be. Raises BadInput."""
    found = text(value)
    encoded(found)
    return found


def encoded(found: str) -> bytes:
    """Raises BadInput."""
    try:
        return found.encode()
    except UnicodeEncodeError:
        raise errors.BadInput("the text cannot be written in UTF-8") from None


def unfit(wanted: str) -> errors.BadInput:
    """Returns the error for a value of another Python type. It repeats nothing of the value."""
    return errors.BadInput(f"the value does not fit the column: it must be {wanted}")


def _text(sizes: tuple[int, ...], *, blank: bool = False) -> Codec:
    def write(value: object) -> str:
        found = text(value)
        if not sizes:
            return found
        # As an INSERT does: blanks beyond the length are no loss.
        kept = found[: sizes[0]] + found[sizes[0] :].rstrip(" ")
        if len(kept) > sizes[0]:
            raise errors.BadInput(f"the value is longer than the {sizes[0]} characters of the column")
        return kept.ljust(sizes[0]) if blank else kept

    return Codec(write, str)


def _whole(limits: tuple[int, int], _: tuple[int, ...]) -> Codec:
    def write(value: object) -> str:
        if isinstance(value, bool) or not isinstance(value, int):
            raise unfit("an int")
        if not limits[0] <= value <= limits[1]:
            raise errors.BadInput("the number is out of the column's range")
        return str(value)

    return Codec(write, _or_text(int))


def _boolean(_: tuple[int, ...]) -> Codec:
    def write(value: object) -> str:
        if not isinstance(value, bool):
            raise unfit("a bool")
        return "t" if value else "f"

    return Codec(write, lambda found: found == "t")


def _uuid(_: tuple[int, ...]) -> Codec:
    def write(value: object) -> str:
        if not isinstance(value, UUID):
            raise unfit("a UUID")
        return str(value)

    return Codec(write, _or_text(UUID))


def _bytes(_: tuple[int, ...]) -> Codec:
    """The text of bytes, for a row key. As a value they are content without a text."""

    def write(value: object) -> str:
        return f"\\x{content(value).hex()}"

    return Codec(write, lambda found: bytes.fromhex(found[2:]))


def content(value: object) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise unfit("bytes")
    return bytes(value)


def _or_text(make: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(found: str) -> Any:
        try:
            return make(found)
        except (ValueError, InvalidOperation):
            return found

    return read


def _number(sizes: tuple[int, ...]) -> Codec:
    return Codec(partial(numbers.decimal, sizes), _or_text(Decimal))


def _float(_: tuple[int, ...], write: Callable[[object], str]) -> Codec:
    return Codec(write, _or_text(float))


def _time(sizes: tuple[int, ...], kind: type, write: Callable[[Any], str], read: Callable[[str], Any]) -> Codec:
    written = partial(times.written, kind, write, sizes[0] if sizes else times.MOST_DIGITS)
    return Codec(written, partial(times.read, write, _or_text(read)))


TYPES: dict[str, Callable[[tuple[int, ...]], Codec]] = {
    "text": _text,
    "character varying": _text,
    "character": partial(_text, blank=True),
    "smallint": partial(_whole, SMALL),
    "integer": partial(_whole, NORMAL),
    "bigint": partial(_whole, BIG),
    "oid": partial(_whole, OID),
    "boolean": _boolean,
    "uuid": _uuid,
    BYTES: _bytes,
    "numeric": _number,
    "real": partial(_float, write=numbers.real),
    "double precision": partial(_float, write=numbers.double),
    "json": lambda _: Codec(jsonb.plain, _or_text(jsonb.read)),
    "jsonb": lambda _: Codec(jsonb.canonical, _or_text(jsonb.read)),
    "date": partial(_time, kind=dt.date, write=times.date, read=dt.date.fromisoformat),
    "time without time zone": partial(_time, kind=dt.time, write=times.time, read=dt.time.fromisoformat),
    "time with time zone": partial(_time, kind=dt.time, write=times.time_zoned, read=dt.time.fromisoformat),
    "timestamp without time zone": partial(
        _time, kind=dt.datetime, write=times.timestamp, read=dt.datetime.fromisoformat
    ),
    "timestamp with time zone": partial(
        _time, kind=dt.datetime, write=times.timestamp_zoned, read=dt.datetime.fromisoformat
    ),
}
