"""Describes how the tokens of one search column are made: FORMAT.md section 8."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from pg_envelope import errors
from pg_envelope.normalizers import KEPT, kind_of, normalizer
from pg_envelope_client.sealing import types

Text = Callable[[object], str]
# Their canonical text is that of the client, and equal values have one.
STEADY = frozenset("text bool int2 int4 int8 oid uuid date time timestamp timestamptz".split())  # noqa: SIM905
# What only the server searches for, by the kind of the search.
SOUGHT = {"match": "parts of texts", "contains": "parts of jsonb", "range": "ranges of values"}
HINT = "Search by the view: the server makes the token there."


@dataclass(frozen=True)
class SearchLayout:
    """`sought` and `stored` make the equality text of a value: one that is looked for, and one that fits the column."""

    database: UUID
    field: UUID
    label: str
    normalizer: str
    sought: Text
    stored: Text

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> SearchLayout:
        """Reads what the key catalog tells. Raises Unsupported for a token that only the server can make."""
        if told["normalizer"].startswith(KEPT):
            raise errors.Unsupported("the normaliser of this search column is a function of the database", hint=HINT)
        if (kind := kind_of(told["normalizer"])) in SOUGHT:
            raise errors.Unsupported(f"a client cannot search for {SOUGHT[kind]}", hint=HINT)
        equal = _equality(told["plain_type"])
        written = types.codec(told["type"]).write
        # A value that is looked for has no length and no precision: what does not fit is not found.
        bare = types.codec(types.without_sizes(told["type"])).write
        return cls(
            database=UUID(told["database_uuid"]),
            field=UUID(told["field_uuid"]),
            label=told["label"],
            normalizer=told["normalizer"],
            sought=partial(_text, bare, equal),
            stored=partial(_text, written, equal),
        )

    def content(self, text: str) -> bytes:
        """Returns what the normaliser makes of an equality text. Raises BadInput."""
        try:
            return normalizer(self.normalizer)(text).encode()
        except UnicodeEncodeError:
            raise errors.BadInput("the text cannot be written in UTF-8") from None


def _text(write: Text, equal: Callable[[str], str], value: object) -> str:
    return equal(write(value))


def _equality(kind: str) -> Callable[[str], str]:
    # The name of an enum has its schema.
    if kind in STEADY or "." in kind:
        return str
    if kind not in EQUALITY:
        raise errors.Unsupported(f"a client cannot make tokens of a column of type {kind}", hint=HINT)
    return EQUALITY[kind]


def _without_blanks(text: str) -> str:
    return text.rstrip(" ")


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def _hexadecimal(text: str) -> str:
    return text.removeprefix("\\x")


EQUALITY: Mapping[str, Callable[[str], str]] = {"bpchar": _without_blanks, "numeric": _trimmed, "bytea": _hexadecimal}
