"""Turns the text forms of bytes into bytes."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from pg_envelope.foreign.bad import NotOpened

URL_SAFE = bytes.maketrans(b"-_", b"+/")
SPACE = b" \t\r\n"
# What makes a text of base64 whole. No text has one letter more than a multiple of four.
PADDING = (b"", b"===", b"==", b"=")
HEX_MARKS = (b"0x", b"\\x")

Decode = Callable[[bytes], bytes]


def from_base64(text: bytes) -> bytes:
    """Reads every usual variant: both alphabets, with and without padding and line breaks. Raises NotOpened."""
    plain = text.translate(URL_SAFE, SPACE).rstrip(b"=")
    try:
        return binascii.a2b_base64(plain + PADDING[len(plain) % 4], strict_mode=True)
    except binascii.Error:
        raise NotOpened from None


def exact_base64(text: bytes) -> bytes:
    """Reads the usual alphabet with its padding, and nothing else. Raises ValueError."""
    return binascii.a2b_base64(text, strict_mode=True)


def exact_base64url(text: bytes) -> bytes:
    """Reads both alphabets, with and without padding, but no line breaks. Raises ValueError."""
    return binascii.a2b_base64(text.translate(URL_SAFE) + PADDING[len(text) % 4], strict_mode=True)


def from_hex(text: bytes) -> bytes:
    """Reads a mark of hexadecimal in front, too. Raises NotOpened."""
    plain = text.strip(SPACE)
    try:
        return binascii.unhexlify(plain[2:] if plain[:2].lower() in HEX_MARKS else plain)
    except binascii.Error:
        raise NotOpened from None


def from_raw(text: bytes) -> bytes:
    return text


def from_url(text: bytes) -> bytes:
    """Reads percent-encoding."""
    return unquote_to_bytes(text)


def from_json(text: bytes) -> bytes:
    """Reads a JSON string. Raises NotOpened, or ValueError."""
    found = json.loads(text)
    if not isinstance(found, str):
        raise NotOpened
    return found.encode()


DECODERS: dict[str, Decode] = {"base64": from_base64, "hex": from_hex, "raw": from_raw}
# What the whole of a value may be wrapped in, beside these.
WRAPPINGS: dict[str, Decode] = {**DECODERS, "url": from_url, "json": from_json}


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def base64url_of(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
