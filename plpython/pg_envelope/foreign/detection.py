"""Tells what values look like, and which layouts open them with a key. Only an opened value is certainly ciphertext."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from pg_envelope import errors
from pg_envelope.foreign.bad import FAILS
from pg_envelope.foreign.encodings import from_base64, from_hex
from pg_envelope.foreign.keys import LegacyKey
from pg_envelope.foreign.presets import NAMES, Spec, reader_of, shape_of, slow
from pg_envelope.foreign.reader import ForeignReader, Opener, Value, is_text, is_utf8

# Layouts that no usual text looks like, the more special ones first. One name stands for all layouts of its shape.
MARKED = (
    *("pgp_sym", "pgp_pub", "vault", "fernet", "django_cryptography", "prisma_field_encryption", "crypto_js", "jwe"),
    *("rails", "node_json_pbkdf2", "node_json", "node_json_hex", "laravel", "message_encryptor"),
    *("iv_tag_ct_hex", "iv_ct_tag_hex", "iv_tag_ct_base64", "iv_ct_hex"),
)
EMPTY, PLAIN = "empty", "plain"
# A text that no layout is known for, with such parts between other letters.
PARTLY = "opaque parts"
PART = re.compile(rb"[A-Za-z0-9+/_-]{22,}={0,2}")
OPAQUE = {"hex": "opaque hex", "base64": "opaque base64", "bytes": "opaque bytes"}
# Shorter texts are words and numbers. No layout stores less.
LEAST_BYTES = 16
# Ciphertext that stands behind so many letters of other text is in a document.
MOST_LOOKED_AT = 100_000
# A key that is derived for each value takes milliseconds.
MOST_SLOW = 20


class Opened(NamedTuple):
    """How many of the values a layout opens, and how many of those are texts in UTF-8."""

    name: str
    opened: int
    texts: int
    tried: int
    authenticates: bool
    seconds_a_value: float
    is_slow: bool


def kind(value: Value) -> str:
    """Returns the name of a marked layout, or what else the value looks like."""
    content = value.encode() if isinstance(value, str) else value
    if not content:
        return EMPTY
    return next((name for name in MARKED if _fits(shape_of(name), content)), _unmarked(content))


def _fits(shape: Opener, content: bytes) -> bool:
    try:
        shape(content)
    except FAILS:
        return False
    return True


def _unmarked(content: bytes) -> str:
    if not is_text(content):
        return OPAQUE["bytes"]
    for name, decode in (("hex", from_hex), ("base64", from_base64)):
        if _hides_bytes(decode, content) and (name == "hex" or _mixes_cases(content)):
            return OPAQUE[name]
    return PARTLY if _has_opaque_parts(content) or _has_opaque_parts(_within(content)) else PLAIN


def _within(content: bytes) -> bytes:
    """Returns the text that base64 hides, as some write JSON objects, or nothing."""
    try:
        return from_base64(content) if _mixes_cases(content) else b""
    except FAILS:
        return b""


def _has_opaque_parts(content: bytes) -> bool:
    return any(map(_is_opaque, PART.findall(content[:MOST_LOOKED_AT])))


def _is_opaque(part: bytes) -> bool:
    """Tells whether a part of a text is hex or base64 of bytes that are no text. Words with hyphens are not."""
    words = re.split(rb"[-_]", part)
    if len(words) > 1 and all(
        word.isalnum() and (word.isalpha() or word.isdigit() or (len(word) <= 12 and not _mixes_cases(word)))
        for word in words
    ):
        return False
    return _hides_bytes(from_hex, part) or (_mixes_cases(part) and _hides_bytes(from_base64, part))


def _mixes_cases(content: bytes) -> bool:
    """base64 of random bytes does. A UUID or an IBAN does not."""
    return content.lower() != content != content.upper()


def _hides_bytes(decode: Opener, content: bytes) -> bool:
    try:
        found = decode(content)
    except FAILS:
        return False
    return len(found) >= LEAST_BYTES and not is_text(found)


def kinds(values: Sequence[Value]) -> Counter[str]:
    return Counter(map(kind, values))


def trial(values: Sequence[Value], key: LegacyKey) -> list[Opened]:
    """Returns the layouts that open at least one of the values with this key, the best first."""
    results = [found for name in NAMES if (found := _tried(name, values, key)) and found.opened]
    return sorted(results, key=lambda found: (-found.opened / found.tried, not found.authenticates))


def trial_of(form: str | Spec, values: Sequence[Value], key: LegacyKey) -> Opened | None:
    """Returns how many values one layout opens; None without values. Raises BadLayout."""
    reader = reader_of(form, key)
    some = values[:MOST_SLOW] if slow(form) else values
    return _counted(form, reader, some)


def _tried(name: str, values: Sequence[Value], key: LegacyKey) -> Opened | None:
    try:
        return trial_of(name, values, key)
    except (errors.BadInput, *FAILS):
        return None


def _counted(form: str | Spec, reader: ForeignReader, values: Sequence[Value]) -> Opened | None:
    from time import perf_counter

    began = perf_counter()
    contents = [content for value in values if (content := reader.content(value)) is not None]
    seconds = (perf_counter() - began) / max(len(values), 1)
    name = form if isinstance(form, str) else ""
    found = Opened(
        name, len(contents), sum(map(is_utf8, contents)), len(values), reader.authenticates, seconds, slow(form)
    )
    return found if values else None
