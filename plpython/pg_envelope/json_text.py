"""Writes and reads JSON by the C part of `json`, which is most of it.

The public module imports `re` and `enum` for its errors and its Python twin, a tenth of a connection's first read.
"""

from __future__ import annotations

from collections.abc import Callable

from pg_envelope.typed import Any, cast

BLANK = " \t\n\r"


class _Grammar:
    """What the scanner asks of a decoder."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(_: str) -> object:
        raise ValueError("RFC 8259 has neither NaN nor Infinity")


def _by_c() -> tuple[Callable[[Any], str], Callable[[str], Any]]:
    """Returns dumps and loads. Raises ImportError or TypeError where `_json`, which is not public, is another one."""
    from _json import encode_basestring_ascii, make_encoder, make_scanner

    def refuse(value: object) -> object:
        raise TypeError(f"{type(value).__name__} is not of JSON")

    encode = make_encoder(None, refuse, encode_basestring_ascii, None, ":", ",", False, False, False)
    scan = make_scanner(cast(make_scanner, _Grammar))

    def dumps(value: Any) -> str:
        return "".join(encode(value, 0))

    def loads(text: str) -> Any:
        text = text.strip(BLANK)
        try:
            value, end = scan(text, 0)
        except StopIteration:
            raise ValueError("this is no JSON") from None
        if end != len(text):
            raise ValueError("more follows the JSON")
        return value

    return dumps, loads


def _by_library() -> tuple[Callable[[Any], str], Callable[[str], Any]]:
    import json
    from functools import partial

    dumps = partial(json.dumps, separators=(",", ":"), allow_nan=False)
    return dumps, partial(json.loads, parse_constant=_Grammar.parse_constant)


try:
    dumps, loads = _by_c()
except (ImportError, TypeError, AttributeError):
    dumps, loads = _by_library()
