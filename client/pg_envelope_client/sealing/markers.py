"""Puts an envelope into a document in one of three layouts, and finds it there again: FORMAT.md section 9.2."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any, Literal

from pg_envelope import errors
from pg_envelope.envelope import HEADER_BYTES, header, key_id
from pg_envelope.suites import PADDED, SUITES, TAG_BYTES, suite_of

Layout = Literal["compact", "parts", "record"]
Marker = dict[str, Any]

COMPACT = {"$envelope"}
PARTS = {"__encrypted", "ciphertext", "iv", "authTag", "algorithm", "version"}
RECORD = {"ciphertext", "iv", "salt", "tag", "keyId", "algorithm", "encryptedAt"}
# A member that is in the user's data by chance has none of these together.
SIGNS: tuple[set[str], ...] = (COMPACT, {"__encrypted"}, {"ciphertext", "iv", "tag", "keyId"})
NAMES = {
    number | padded: suite.name.lower() + ("+padme" if padded else "")
    for number, suite in SUITES.items()
    for padded in (0, PADDED)
}
NUMBERS = {name: number for number, name in NAMES.items()}


def is_marker(value: object) -> bool:
    """Tells whether a part of a document is, or looks like, a sealed value."""
    return isinstance(value, Mapping) and any(sign <= set(value) for sign in SIGNS)


def marker(envelope: bytes, layout: Layout) -> Marker:
    """Returns what stands in the document in the place of a value."""
    return WRITERS[layout](envelope)


def envelope_of(found: Mapping[str, Any]) -> bytes:
    """Returns the envelope of a sealed value. Raises InvalidEnvelope for a marker that is not whole."""
    members = set(found)
    try:
        if members == COMPACT:
            return _bytes(found["$envelope"])
        if members == PARTS and found["__encrypted"] is True and type(found["version"]) is int:
            return _joined(found, found["version"], "authTag")
        # One spelling of a number, as of all else that a marker holds.
        if members == RECORD and found["keyId"] == str(int(found["keyId"])):
            return _joined(found, int(found["keyId"]), "tag")
    except (ValueError, TypeError, KeyError, OverflowError):
        raise errors.InvalidEnvelope from None
    raise errors.InvalidEnvelope


def _joined(found: Mapping[str, Any], number: int, tag: str) -> bytes:
    suite = NUMBERS[found["algorithm"]]
    nonce, end = _bytes(found["iv"]), _bytes(found[tag])
    # Parts of another length would shift bytes from one into the next.
    if len(nonce) != suite_of(suite).nonce_bytes or len(end) != TAG_BYTES:
        raise ValueError
    return header(suite & ~PADDED, bool(suite & PADDED), number) + nonce + _bytes(found["ciphertext"]) + end


def _split(envelope: bytes) -> tuple[bytes, bytes, bytes]:
    end = HEADER_BYTES + suite_of(envelope[1]).nonce_bytes
    return envelope[HEADER_BYTES:end], envelope[end:-TAG_BYTES], envelope[-TAG_BYTES:]


def _compact(envelope: bytes) -> Marker:
    return {"$envelope": _text(envelope)}


def _parts(envelope: bytes) -> Marker:
    nonce, ciphertext, tag = _split(envelope)
    return {
        "__encrypted": True,
        "ciphertext": _text(ciphertext),
        "iv": _text(nonce),
        "authTag": _text(tag),
        "algorithm": NAMES[envelope[1]],
        "version": key_id(envelope),
    }


def _record(envelope: bytes) -> Marker:
    nonce, ciphertext, tag = _split(envelope)
    return {
        "ciphertext": _text(ciphertext),
        "iv": _text(nonce),
        "salt": "",
        "tag": _text(tag),
        "keyId": str(key_id(envelope)),
        "algorithm": NAMES[envelope[1]],
        "encryptedAt": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _bytes(text: object) -> bytes:
    if not isinstance(text, str):
        raise TypeError
    return base64.b64decode(text, validate=True)


WRITERS: dict[str, Callable[[bytes], Marker]] = {"compact": _compact, "parts": _parts, "record": _record}
