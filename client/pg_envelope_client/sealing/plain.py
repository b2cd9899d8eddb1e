"""Writes a value of a document as JSON that keeps its type: FORMAT.md section 9.1."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from pg_envelope import errors

MOST_DEPTH = 200
# Stands around an object of the user's that looks like one of the tags.
QUOTE = "$"


class Tag(NamedTuple):
    name: str
    write: Callable[[Any], str]
    read: Callable[[str], Any]


TAGS = {
    dt.datetime: Tag("$datetime", dt.datetime.isoformat, dt.datetime.fromisoformat),
    dt.date: Tag("$date", dt.date.isoformat, dt.date.fromisoformat),
    dt.time: Tag("$time", dt.time.isoformat, dt.time.fromisoformat),
    Decimal: Tag("$decimal", str, Decimal),
    UUID: Tag("$uuid", str, UUID),
    bytes: Tag("$bytes", lambda value: base64.b64encode(value).decode(), lambda text: base64.b64decode(text)),
}
# JSON has no infinity and no NaN.
ODD_FLOAT = Tag("$float", repr, float)
BY_NAME = {tag.name: tag for tag in (*TAGS.values(), ODD_FLOAT)}
SAME = (str, int, bool, type(None))


def write(value: object) -> bytes:
    """Returns the content of an envelope. Raises BadInput for a type that would not come back as it is."""
    try:
        return json.dumps(_written(value, MOST_DEPTH), ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise errors.BadInput("a text of the document cannot be written in UTF-8") from None
    except ValueError:
        # Python's own limit of digits, which a reader has, too.
        raise errors.BadInput("a number of the document has too many digits") from None


def read(content: bytes) -> Any:
    """Raises InvalidEnvelope for content that `write` does not make."""
    try:
        return _read(json.loads(content.decode()))
    except (ValueError, ArithmeticError, KeyError, TypeError, AttributeError, RecursionError):
        raise errors.InvalidEnvelope from None


def _written(value: object, depth: int) -> object:
    refuse_deep(depth)
    if isinstance(value, Mapping):
        found = {name_of(name): _written(item, depth - 1) for name, item in value.items()}
        return {QUOTE: found} if _looks_tagged(found) else found
    if type(value) in (list, tuple):
        return [_written(item, depth - 1) for item in value]  # type: ignore[attr-defined]
    if type(value) is float:
        return value if math.isfinite(value) else {ODD_FLOAT.name: repr(value)}
    if (tag := TAGS.get(type(value))) is not None:
        return {tag.name: tag.write(value)}
    # A subclass could hold more than its base, as some databases' date types do.
    if type(value) not in SAME:
        raise errors.BadInput(
            f"a document holds a value of type {type(value).__name__}, which cannot be sealed",
            hint="Convert it to a type of Python's own first.",
        )
    return value


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return [_read(item) for item in value]
    if not isinstance(value, dict):
        return value
    if not _looks_tagged(value):
        return {name: _read(item) for name, item in value.items()}
    ((name, inner),) = value.items()
    return {one: _read(item) for one, item in inner.items()} if name == QUOTE else BY_NAME[name].read(inner)


def _looks_tagged(found: Mapping[str, Any]) -> bool:
    return len(found) == 1 and next(iter(found)).startswith(QUOTE)


def name_of(name: object) -> str:
    if type(name) is not str:
        raise errors.BadInput("the names in a document must be texts")
    return name


def refuse_deep(depth: int) -> None:
    if depth <= 0:
        raise errors.BadInput(f"the document is deeper than {MOST_DEPTH} levels")
