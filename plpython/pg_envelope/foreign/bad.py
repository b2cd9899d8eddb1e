"""The two errors of this package: a value that does not open, and a key or specification that fits no layout."""

from __future__ import annotations

import struct
import zlib

from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm

from pg_envelope import errors


class NotOpened(ValueError):
    """A value does not have the layout's shape, or does not open. It carries no value, and nobody shows its text."""


class BadLayout(errors.BadInput):
    """A specification names what no layout has, or the key does not fit it."""


# What the parsers and ciphers raise for bytes that are not theirs. Every other error is a fault of this package.
FAILS = (
    *(NotOpened, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError, OverflowError),
    *(struct.error, zlib.error, InvalidTag, InvalidSignature, UnsupportedAlgorithm),
)
