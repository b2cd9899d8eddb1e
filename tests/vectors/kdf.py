"""HKDF-SHA256 (RFC 5869) for the second implementation: nothing in it comes from the package."""

from __future__ import annotations

import hmac


def extract(salt: bytes, key: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), key, "sha256")


def expand(secret: bytes, info: bytes, length: int) -> bytes:
    block, output = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(secret, block + info + bytes([counter]), "sha256")
        output += block
    return output[:length]


def hkdf(key: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return expand(extract(salt, key), info, length)
