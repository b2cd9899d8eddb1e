"""Reads pickled values, as django-cryptography encrypts them. A pickle is a program, and may call almost nothing here.

It may make texts, bytes, numbers, containers of them, and the values of NAMED. Each of these is made here, of checked
arguments: no class or function that a pickle names is ever imported or called.
"""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import re
import warnings
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from uuid import UUID

from pg_envelope.foreign.bad import NotOpened

# One text or bytes and nothing else, as most values are: what stands before it, with its length of one byte or of four,
# and what stands behind it.
LONE = re.compile(rb"\x80[\x03-\x05](?:\x95.{8})?(?:([\x8cC])(.)|([XB])(.{4}))", re.DOTALL)
LONE_ENDS = (b"\x94.", b"q\0.", b".")
OF_TEXT = b"\x8cX"
MEMOS = ("PUT", "BINPUT", "LONG_BINPUT")
NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,6})?|[+-]?Infinity|NaN", re.ASCII)
# How much longer the JSON of a container may be than its pickle. A pickle of lists that contain one list many times
# could fill the memory.
MOST_TIMES, MORE_LETTERS = 16, 1 << 16
UUIDS = range(1 << 128)
FOLD = 0x80


class Maker(type):
    """The type of what a pickle may name. A call makes a value, and no pickle can change what a call does."""

    make: Callable[..., object]

    def __call__(cls, *given: object) -> object:
        return cls.make(*given)

    def __setattr__(cls, name: str, value: object) -> None:
        raise NotOpened


class PickledUuid(metaclass=Maker):
    """A pickle makes a UUID in two steps: an empty object, and then its state."""

    __slots__ = ("found",)
    found: UUID

    @staticmethod
    def make(*_given: object) -> object:
        raise NotOpened

    def __setstate__(self, state: object) -> None:
        number = state.get("int") if type(state) is dict else None
        if type(number) is not int or number not in UUIDS:
            raise NotOpened
        self.found = UUID(int=number)


def _bytes(given: object, length: int) -> bytes:
    if not isinstance(given, bytes) or len(given) != length:
        raise NotOpened
    return given


def _zone(given: object) -> tzinfo | None:
    if given is not None and type(given) is not timezone:
        raise NotOpened
    return given


def _date(given: object) -> date:
    year_high, year_low, month, day = _bytes(given, 4)
    return date(year_high << 8 | year_low, month, day)


def _datetime(given: object, zone: object = None) -> datetime:
    """The highest bit of the month tells which of two equal hours in autumn is meant. The text does not have it."""
    content = _bytes(given, 10)
    day = _date(bytes([*content[:2], content[2] & ~FOLD, content[3]]))
    return datetime.combine(day, _time(content[4:], zone))


def _time(given: object, zone: object = None) -> time:
    hour, minute, second, *micro = _bytes(given, 6)
    return time(hour & ~FOLD, minute, second, int.from_bytes(micro, "big"), _zone(zone))


def _timedelta(*given: object) -> timedelta:
    numbers = [number for number in given if type(number) is int]
    if len(numbers) != 3 or len(given) != 3:
        raise NotOpened
    return timedelta(*numbers)


def _timezone(offset: object, _name: object = None) -> timezone:
    if type(offset) is not timedelta:
        raise NotOpened
    return timezone(offset)


def _utc() -> timezone:
    return UTC


def _decimal(given: object) -> Decimal:
    if not isinstance(given, str) or not NUMBER.fullmatch(given):
        raise NotOpened
    return Decimal(given)


def _latin1(given: object, encoding: object) -> bytes:
    """Protocol 2 has no bytes of its own."""
    if not isinstance(given, str) or encoding != "latin1":
        raise NotOpened
    return given.encode("latin1")


def _no_bytes() -> bytes:
    """Protocol 2 writes empty bytes so."""
    return b""


def _maker(make: Callable[..., object]) -> Maker:
    return Maker(make.__name__, (), {"__slots__": (), "make": staticmethod(make)})


NAMED: dict[tuple[str, str], Maker] = {
    ("datetime", "date"): _maker(_date),
    ("datetime", "datetime"): _maker(_datetime),
    ("datetime", "time"): _maker(_time),
    ("datetime", "timedelta"): _maker(_timedelta),
    ("datetime", "timezone"): _maker(_timezone),
    ("pytz", "_UTC"): _maker(_utc),
    ("decimal", "Decimal"): _maker(_decimal),
    ("uuid", "UUID"): PickledUuid,
    ("_codecs", "encode"): _maker(_latin1),
    ("__builtin__", "bytes"): _maker(_no_bytes),
}


class NothingToCall(pickle.Unpickler):
    """A pickle that names anything else is refused."""

    def find_class(self, module: str, name: str, /) -> Maker:
        return NAMED[module, name]


def of_pickle(content: bytes) -> bytes:
    """Returns the text or bytes in a pickle, the text of a number, date, time or UUID, and JSON of a container.

    Raises one of bad.FAILS.
    """
    lone = _lone(content)
    if lone is not None:
        return lone
    found = _loaded(content)
    if isinstance(found, bytes):
        return found
    return (found if isinstance(found, str) else _json(found, MOST_TIMES * len(content) + MORE_LETTERS)).encode()


def _loaded(content: bytes) -> object:
    try:
        with warnings.catch_warnings():
            # Python warns of an escape in a text of protocol 0, and its warning has letters of the value.
            warnings.simplefilter("ignore")
            _check_memo(content)
            return NothingToCall(io.BytesIO(content)).load()
    except (pickle.UnpicklingError, EOFError, MemoryError):
        raise NotOpened from None


def _lone(content: bytes) -> bytes | None:
    found = LONE.match(content)
    if found is None:
        return None
    kind, length, long_kind, long_length = found.groups()
    end = found.end() + int.from_bytes(length or long_length, "little")
    if content[end:] not in LONE_ENDS:
        return None
    body = content[found.end() : end]
    if (kind or long_kind) in OF_TEXT:
        body.decode()
    return body


def _check_memo(content: bytes) -> None:
    """The place in a memo is a number, and the unpickler takes memory for all places before it."""
    for opcode, given, _ in pickletools.genops(content):
        if opcode.name in MEMOS and (not isinstance(given, int) or given > len(content)):
            raise NotOpened


def _json(found: object, most: int) -> str:
    if isinstance(found, PickledUuid | date | time | timedelta | Decimal):
        return _text(found)
    pieces, length = [], 0
    for piece in json.JSONEncoder(ensure_ascii=False, default=_text).iterencode(found):
        length += len(piece)
        if length > most:
            raise NotOpened
        pieces.append(piece)
    return "".join(pieces)


def _text(found: object) -> str:
    """Returns what PostgreSQL reads as date, time, timestamp, interval, numeric and uuid."""
    if isinstance(found, PickledUuid):
        return str(found.found)
    if not isinstance(found, date | time | timedelta | Decimal):
        raise NotOpened
    return str(found)
