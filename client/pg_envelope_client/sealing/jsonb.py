"""Writes JSON as PostgreSQL's jsonb does: keys by length, then by bytes; numbers as numeric."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal

from pg_envelope import errors
from pg_envelope_client.sealing import numbers

# A deeper document overflows the stack of some readers.
MOST_DEPTH = 500


def canonical(value: object) -> str:
    """The text of a jsonb. Raises BadInput for what JSON has not."""
    return _written(value, MOST_DEPTH)


def plain(value: object) -> str:
    """A text of a json: the type keeps a text as it came, so any spelling is its own."""
    return _written(value, MOST_DEPTH)


def read(text: str) -> object:
    return json.loads(text)


def _written(value: object, depth: int) -> str:
    if not depth:
        raise errors.BadInput(f"the document is deeper than {MOST_DEPTH} levels")
    if isinstance(value, Mapping):
        members = sorted(((_name(name), item) for name, item in value.items()), key=lambda one: _place(one[0]))
        return "{" + ", ".join(f"{_string(name)}: {_written(item, depth - 1)}" for name, item in members) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_written(item, depth - 1) for item in value) + "]"
    return _scalar(value)


def _scalar(value: object) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, float) and math.isfinite(value):
        return numbers.decimal((), Decimal(repr(value)))
    if isinstance(value, int) or (isinstance(value, Decimal) and value.is_finite()):
        return numbers.decimal((), value)
    raise errors.BadInput("the value does not fit the column: JSON has no such value")


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise errors.BadInput("the value does not fit the column: names in JSON are texts")
    return name


def _place(name: str) -> tuple[int, bytes]:
    encoded = name.encode(errors="surrogatepass")
    return len(encoded), encoded


def _string(value: str) -> str:
    if "\0" in value:
        raise errors.BadInput("a text never holds the byte 00")
    return json.dumps(value, ensure_ascii=False)
