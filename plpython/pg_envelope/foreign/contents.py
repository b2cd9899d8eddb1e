"""What some libraries encrypt is not the text itself, but a serialised form of it, or a text in another charset."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from pg_envelope.foreign.bad import BadLayout, NotOpened
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
# As PostgreSQL's servers and old applications stored texts. Python has codecs of these names, and reads each strictly.
CHARSETS = (
    *(f"iso-8859-{part}" for part in (*range(1, 12), *range(13, 17))),
    *(f"windows-{page}" for page in range(1250, 1259)),
    *("utf-8", "utf-16", "utf-16le", "utf-16be", "koi8-r", "koi8-u", "cp437", "cp850", "cp866", "windows-874"),
    *("euc-jp", "euc-kr", "shift_jis", "gbk", "gb18030", "big5"),
)
# The codec's own name, where it is another one.
CODECS = {"windows-874": "cp874"}


def content_steps(given: Mapping[str, Any]) -> Iterator[Callable[[bytes], bytes]]:
    """Yields what reads the content: `content` is one form, or several of them in the order in which they are taken
    off. `charset` comes last. Raises BadLayout.
    """
    told = given.get("content") or []
    names = told if isinstance(told, list) else [told]
    if not all(isinstance(name, str) and name in CONTENTS for name in names):
        raise BadLayout(f"content must be one of, or a list of: {', '.join(CONTENTS)}")
    yield from (CONTENTS[name] for name in names)
    charset = given.get("charset", "utf-8")
    if charset not in CHARSETS:
        raise BadLayout(f"charset must be one of: {', '.join(CHARSETS)}")
    if charset != "utf-8":
        yield _of_charset(CODECS.get(charset, charset))


def _of_charset(codec: str) -> Callable[[bytes], bytes]:
    """UnicodeDecodeError is a ValueError, which tells that a value does not open."""
    return lambda content: content.decode(codec).encode()
