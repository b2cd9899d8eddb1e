"""Finds the parts of a value: IV, ciphertext, tag and salt, wherever a layout puts them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pg_envelope.foreign.bad import NotOpened
from pg_envelope.foreign.encodings import Decode
from pg_envelope.foreign.json_forms import Fit, Forms, Parts

# Takes the bytes of a value apart. Raises one of bad.FAILS for a value of another shape.
Split = Callable[[bytes], Parts]
# Returns how a part of this name is written.
Decoders = Callable[[str], Decode]
# A part of this name is passed over.
PASSED_OVER = "-"
# It is among the parts of a value whose content is compressed.
COMPRESSED = "compressed"


def json_object(
    members: Mapping[str, str],
    decoder: Decoders,
    expected: Mapping[str, Any],
    compressed: str,
    fit: Fit,
) -> Split:
    """The parts are members of a JSON object; a dot in a path goes into an object inside it.

    `expected` has members by path with the value that each must have, if it is there. Where the member at the path
    `compressed` is true, there is a part COMPRESSED. `members` begins with the ciphertext. `fit` raises NotOpened for
    parts that cannot be the cipher's.
    """

    def looked_at(found: Any) -> Parts:
        if not isinstance(found, dict) or any(_at(found, path) not in (None, told) for path, told in expected.items()):
            raise NotOpened
        return {COMPRESSED: b"1"} if compressed and _at(found, compressed) else {}

    decoders = {name: decoder(name) for name in members}

    def parse(value: bytes) -> Parts:
        found = json.loads(value)
        flags = looked_at(found)
        parts = {name: _part(_at(found, path), decoders[name]) for name, path in members.items()}
        return {**parts, **flags}

    at = {name: partial(_at, path=path) for name, path in members.items()}
    return Forms(at, decoders, looked_at, parse, fit)


def _at(found: Any, path: str) -> Any:
    for name in path.split("."):
        found = found.get(name)
        if found is None:
            return None
    return found


def _part(member: Any, decode: Decode) -> bytes:
    """Reads a text, or a list of numbers as node writes a Buffer."""
    numbers = member.get("data") if isinstance(member, dict) else member
    if isinstance(numbers, list):
        return bytes(numbers)
    if not isinstance(member, str):
        raise NotOpened
    return decode(member.encode())


def separated(separator: str, order: Sequence[str], decoder: Decoders) -> Split:
    """The parts are texts with a separator between them, in this order."""
    between = separator.encode()

    def split(value: bytes) -> Parts:
        found = value.strip().split(between)
        if len(found) != len(order):
            raise NotOpened
        parts = zip(order, found, strict=True)
        return {name: decoder(name)(part) for name, part in parts if not name.startswith(PASSED_OVER)}

    return split


def joined(order: Sequence[str], sizes: Mapping[str, int]) -> Split:
    """The parts are bytes, one behind the other. All but the ciphertext have a size. Some are passed over."""
    at = order.index("ct")
    head = [(name, sizes[name]) for name in order[:at]]
    tail = [(name, sizes[name]) for name in order[at + 1 :]]
    least = sum(size for _, size in (*head, *tail))
    passes = any(name.startswith(PASSED_OVER) for name in order)

    def split(content: bytes) -> Parts:
        if len(content) < least:
            raise NotOpened
        parts, start = {}, 0
        for name, size in head:
            parts[name], start = content[start : start + size], start + size
        end = len(content)
        for name, size in reversed(tail):
            parts[name], end = content[end - size : end], end - size
        parts["ct"] = content[start:end]
        return {name: part for name, part in parts.items() if not name.startswith(PASSED_OVER)} if passes else parts

    return split


def beginning(magic: bytes, split: Split) -> Split:
    """The decoded bytes begin with a constant."""

    def behind(content: bytes) -> Parts:
        if not content.startswith(magic):
            raise NotOpened
        return split(content[len(magic) :])

    return behind


def wrapped(wrappings: Sequence[Decode], split: Split) -> Split:
    """The whole value is encoded, by the first of these outermost."""

    def inside(value: bytes) -> Parts:
        for decode in wrappings:
            value = decode(value)
        return split(value)

    return inside if wrappings else split


def between(prefix: bytes, suffix: bytes, split: Split) -> Split:
    """The value has a constant beginning and end."""
    if not prefix and not suffix:
        return split

    def inside(value: bytes) -> Parts:
        given = value.strip()
        if not (given.startswith(prefix) and given.endswith(suffix) and len(given) >= len(prefix) + len(suffix)):
            raise NotOpened
        return split(given[len(prefix) : len(given) - len(suffix)])

    return inside
