"""ASCII armour."""

from __future__ import annotations

import re

from pg_envelope.foreign.bad import NotOpened
from pg_envelope.foreign.encodings import base64_of, from_base64

BLOCK = re.compile(
    rb"-----BEGIN PGP [A-Z ]+-----[ \t]*\r?\n(?:[A-Za-z][\w-]*: [^\n]*\n)*[ \t]*\r?\n?"
    rb"([A-Za-z0-9+/\s]+={0,2})\s*(?:=[A-Za-z0-9+/]{4}\s*)?-----END PGP"
)
CRC_START, CRC_POLYNOMIAL = 0xB704CE, 0x1864CFB


def dearmored(content: bytes) -> bytes:
    """Returns the bytes in an armour. Bytes without one stay as they are. Raises NotOpened."""
    if not content.lstrip().startswith(b"-----BEGIN PGP"):
        return content
    found = BLOCK.search(content)
    if found is None:
        raise NotOpened
    return from_base64(found[1])


def armored(content: bytes) -> str:
    text = base64_of(content)
    lines = "\n".join(text[start : start + 64] for start in range(0, len(text), 64))
    check = base64_of(_crc24(content).to_bytes(3, "big"))
    return f"-----BEGIN PGP MESSAGE-----\n\n{lines}\n={check}\n-----END PGP MESSAGE-----\n"


def _crc24(content: bytes) -> int:
    crc = CRC_START
    for byte in content:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= CRC_POLYNOMIAL
    return crc & 0xFFFFFF
