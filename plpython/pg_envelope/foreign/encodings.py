"""Turns the text forms of bytes into bytes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

from pg_envelope.foreign.bad import NotOpened

URL_SAFE = bytes.maketrans(b"-_", b"+/")
SPACE = b" \t\r\n"

Decode = Callable[[bytes], bytes]


def from_base64(text: bytes) -> bytes:
    """Reads every usual variant: both alphabets, with and without padding and line breaks. Raises NotOpened."""
    plain = text.translate(URL_SAFE, SPACE).rstrip(b"=")
    try:
        return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except binascii.Error:
        raise NotOpened from None


def from_hex(text: bytes) -> bytes:
    """Raises NotOpened."""
    try:
        return binascii.unhexlify(text.strip(SPACE))
    except binascii.Error:
        raise NotOpened from None


def from_raw(text: bytes) -> bytes:
    return text


DECODERS: dict[str, Decode] = {"base64": from_base64, "hex": from_hex, "raw": from_raw}


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def base64url_of(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
