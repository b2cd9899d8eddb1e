"""What some libraries encrypt is not the text itself, but a serialised form of it."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from functools import partial

from pg_envelope.foreign.bad import NotOpened
from pg_envelope.foreign.pickles import of_pickle

PHP_STRING = re.compile(rb's:(\d+):"')
# Compressed content may grow to this many bytes, which is what PostgreSQL takes as one value.
MOST_BYTES = 1 << 30


def inflated(content: bytes, window_bits: int = zlib.MAX_WBITS) -> bytes:
    """Raises NotOpened."""
    stream = zlib.decompressobj(window_bits)
    try:
        found = stream.decompress(content, MOST_BYTES)
    except zlib.error:
        raise NotOpened from None
    if not stream.eof:
        raise NotOpened
    return found


def of_php(content: bytes) -> bytes:
    """Reads a string as PHP's serialize() writes it."""
    found = PHP_STRING.match(content)
    if found is None:
        raise NotOpened
    end = found.end() + int(found[1])
    if content[end:] != b'";':
        raise NotOpened
    return content[found.end() : end]


def of_json(content: bytes) -> bytes:
    """Reads a JSON string. Other JSON stays as it is."""
    found = json.loads(content)
    return found.encode() if isinstance(found, str) else content


def naive(content: bytes) -> bytes:
    """Takes away the padding of asterisks that SQLAlchemy-Utils makes by default."""
    return content.rstrip(b"*")


def without_zeros(content: bytes) -> bytes:
    """Takes away the padding of zero bytes that mcrypt made."""
    return content.rstrip(b"\0")


# zlib's window bits also tell what is around the compressed bytes.
GZIP, DEFLATE = 16 + zlib.MAX_WBITS, -zlib.MAX_WBITS
CONTENTS: dict[str, Callable[[bytes], bytes]] = {
    "php": of_php,
    "json": of_json,
    "pickle": of_pickle,
    "zlib": inflated,
    "gzip": partial(inflated, window_bits=GZIP),
    "deflate": partial(inflated, window_bits=DEFLATE),
}
