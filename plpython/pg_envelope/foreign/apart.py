"""Parts that do not lie in the value itself: they are in columns beside it, or constant.

A value with parts in other columns comes as one text: the hexadecimal bytes of each column, the value's own first, with
dots between them. tables/generate/expressions.py writes it.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pg_envelope.foreign.bad import BadLayout, NotOpened
from pg_envelope.foreign.containers import Split
from pg_envelope.foreign.encodings import DECODERS, Decode, from_hex
from pg_envelope.foreign.json_forms import Parts

# In the order in which they come behind the value.
PARTS = ("iv", "tag", "salt", "aad")
BETWEEN = b"."
# It stands for the name of the column that has the value.
OWN_NAME = "*"
HINT = 'For example "iv": {"column": "*_iv", "encoding": "base64"}, or "iv": {"constant": "000102..."} as hex.'
OF_COLUMNS, OF_CONSTANTS = {"column", "encoding", "prefix"}, {"constant"}


@dataclass(frozen=True)
class Apart:
    """`columns` has the names of columns by part, and `decoders` how their content is read."""

    columns: dict[str, str]
    decoders: dict[str, Decode]
    constants: Parts

    def of(self, split: Split) -> Split:
        """Returns the function that finds these parts, too."""
        if not self.columns and not self.constants:
            return split

        def whole(value: bytes) -> Parts:
            own, *others = value.split(BETWEEN) if self.columns else (value,)
            if len(others) != len(self.columns):
                raise NotOpened
            found = zip(self.decoders.items(), others, strict=True)
            beside = {name: decode(binascii.unhexlify(part)) for (name, decode), part in found}
            return {**self.constants, **beside, **split(binascii.unhexlify(own) if self.columns else own)}

        return whole


def apart(given: Mapping[str, Any]) -> Apart:
    """Reads which parts of a specification are not in the value. Raises BadLayout."""
    found = {name: given[name] for name in PARTS if isinstance(given.get(name), dict)}
    for name, told in found.items():
        _check(name, told)
    beside = {name: told for name, told in found.items() if "column" in told}
    decoders = {name: _decoder(told, _usual(given, name)) for name, told in beside.items()}
    constants = {name: constant(name, told) for name, told in found.items() if "constant" in told}
    return Apart({name: told["column"] for name, told in beside.items()}, decoders, constants)


def constant(name: str, told: Mapping[str, Any]) -> bytes:
    """Reads the bytes of {"constant": "00ff..."}. Raises BadLayout."""
    _check(name, told)
    if "constant" not in told:
        raise BadLayout(f"{name} must be a text or a constant", hint=HINT)
    return from_hex(told["constant"].encode())


def _check(name: str, told: Mapping[str, Any]) -> None:
    known = OF_COLUMNS if "column" in told else OF_CONSTANTS
    if not told or set(told) - known or not all(isinstance(text, str) and text for text in told.values()):
        raise BadLayout(f"{name} must name a column or a constant", hint=HINT)
    if "constant" in told and not _is_hex(told["constant"]):
        raise BadLayout(f"the constant {name} must be hexadecimal", hint=HINT)


def _usual(given: Mapping[str, Any], name: str) -> Any:
    """Returns how a part is written, if it says nothing else: associated data as it is, others as the value."""
    found = given.get("encoding", "base64" if given.get("container") == "json" else "raw")
    if isinstance(found, dict):
        return found.get(name, "raw")
    return "raw" if name == "aad" else found


def _is_hex(text: str) -> bool:
    try:
        return bool(from_hex(text.encode()))
    except NotOpened:
        return False


def _decoder(told: Mapping[str, Any], usual: Any) -> Decode:
    """Returns how the content of a part's column is read. Its prefix is taken away first."""
    name, prefix = told.get("encoding", usual), told.get("prefix", "").encode()
    if not isinstance(name, str) or name not in DECODERS:
        raise BadLayout(f"encoding must be one of: {', '.join(DECODERS)}", hint=HINT)
    return _behind(prefix, DECODERS[name]) if prefix else DECODERS[name]


def _behind(prefix: bytes, decode: Decode) -> Decode:
    def decoded(content: bytes) -> bytes:
        if not content.startswith(prefix):
            raise NotOpened
        return decode(content[len(prefix) :])

    return decoded


def columns_beside(form: str | Mapping[str, Any], column: str) -> list[str]:
    """Returns the columns that hold parts of a column's values, in the order of PARTS. Raises BadLayout."""
    if isinstance(form, str):
        return []
    return [name.replace(OWN_NAME, column) for name in apart(form).columns.values()]


def parts_beside(form: str | Mapping[str, Any]) -> list[str]:
    """Returns the names of the parts whose columns columns_beside() returns, in the same order."""
    return [] if isinstance(form, str) else list(apart(form).columns)


def own_part(value: bytes) -> bytes:
    """Returns what the column itself holds, of a value with parts in other columns."""
    return binascii.unhexlify(value.split(BETWEEN)[0])


def with_parts(value: bytes, parts: str) -> bytes:
    """Returns a value with its parts in other columns. `parts` has them as own_part() finds them behind the value."""
    return binascii.hexlify(value) + BETWEEN + parts.encode()
