"""Hides a value's length, but for its magnitude, by PADMÉ padding: FORMAT.md section 1.2."""

from __future__ import annotations

from pg_envelope import errors

MARK = b"\x80"


def padme(length: int) -> int:
    """Returns the padded length for `length` bytes; at most 12 % more."""
    if length < 2:
        return length
    exponent = length.bit_length() - 1
    unit = 1 << (exponent - exponent.bit_length())
    return -(-length // unit) * unit


def pad(content: bytes) -> bytes:
    marked = len(content) + 1
    return content + MARK + bytes(padme(marked) - marked)


def unpad(padded: bytes) -> bytes:
    """Returns the content. Raises InvalidEnvelope when the mark is missing."""
    content = padded.rstrip(b"\0")
    if not content.endswith(MARK):
        raise errors.InvalidEnvelope
    return content[:-1]
