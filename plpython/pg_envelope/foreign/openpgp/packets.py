"""Takes a message apart into packets, and reads the numbers in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pg_envelope.foreign.bad import NotOpened

# Lengths in the new format from here on: two bytes, parts of a stream, five bytes.
TWO, PARTIAL, FIVE = 192, 224, 255


class Packet(NamedTuple):
    tag: int
    body: bytes


def packets(content: bytes) -> Iterator[Packet]:
    """Raises NotOpened, or IndexError where the bytes end too early."""
    at = 0
    while at < len(content):
        first = content[at]
        if not first & 0x80:
            raise NotOpened
        packet, at = _new(content, at + 1, first & 0x3F) if first & 0x40 else _old(content, at + 1, first)
        yield packet


def _old(content: bytes, at: int, first: int) -> tuple[Packet, int]:
    size = (1, 2, 4, 0)[first & 3]
    length = int.from_bytes(content[at : at + size], "big") if size else len(content) - at
    return Packet(first >> 2 & 0xF, _taken(content, at + size, length)), at + size + length


def _new(content: bytes, at: int, tag: int) -> tuple[Packet, int]:
    parts = []
    while True:
        length, at, is_last = _length(content, at)
        parts.append(_taken(content, at, length))
        at += length
        if is_last:
            return Packet(tag, b"".join(parts)), at


def _length(content: bytes, at: int) -> tuple[int, int, bool]:
    first = content[at]
    if first < TWO:
        return first, at + 1, True
    if first < PARTIAL:
        return (first - TWO << 8) + content[at + 1] + TWO, at + 2, True
    if first < FIVE:
        return 1 << (first & 0x1F), at + 1, False
    return int.from_bytes(content[at + 1 : at + 5], "big"), at + 5, True


def _taken(content: bytes, at: int, length: int) -> bytes:
    if at + length > len(content):
        raise NotOpened
    return content[at : at + length]


def number(content: bytes, at: int) -> tuple[int, int]:
    """Returns a multiprecision integer, and the place behind it."""
    size = (int.from_bytes(content[at : at + 2], "big") + 7) // 8
    return int.from_bytes(_taken(content, at + 2, size), "big"), at + 2 + size


def packet(tag: int, body: bytes) -> bytes:
    """Writes a packet in the new format."""
    length = len(body)
    if length < TWO:
        told = bytes((length,))
    elif length < 8384:
        told = bytes((TWO + (length - TWO >> 8), length - TWO & 0xFF))
    else:
        told = b"\xff" + length.to_bytes(4, "big")
    return bytes((0xC0 | tag,)) + told + body
