"""Signs statements with a DEK, so that anyone can check later what this broker was told: FORMAT.md section 5."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pg_envelope import errors

SEED_BYTES = 32


class Signature(NamedTuple):
    """The signed text, byte for byte. `signature` and `public_key` are raw Ed25519."""

    text: str
    signature: bytes
    public_key: bytes


def sign(dek: bytes, statement: dict[str, Any], facts: dict[str, Any]) -> Signature:
    """Signs the statement together with what the broker knows of it. Raises BadInput unless it is plain JSON."""
    key = Ed25519PrivateKey.from_private_bytes(HKDF(SHA256(), SEED_BYTES, None, b"pg_envelope/1 sign").derive(dek))
    text = exact({"pg_envelope": 1, **facts, "statement": statement})
    return Signature(text, key.sign(text.encode()), key.public_key().public_bytes_raw())


def exact(content: dict[str, Any]) -> str:
    """Returns one line of JSON, the same for the same content: members in order of their names, ASCII only."""
    try:
        return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError):
        raise errors.BadInput("the statement is not plain JSON") from None
