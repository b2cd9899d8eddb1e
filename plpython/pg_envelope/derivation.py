"""Derives field keys and the fingerprint from a DEK: FORMAT.md section 2."""

from __future__ import annotations

import hmac
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

DEK_BYTES = 32
FIELD_KEY_BYTES = 32
SALT_BYTES = 32
FINGERPRINT_BYTES = 16
DRAWN_BYTES = 16


def field_key(dek: bytes, salt: bytes, field_uuid: UUID, key_id: int) -> bytes:
    """Returns 32 bytes, the key of one column and version."""
    info = b"pg_envelope/1 field" + field_uuid.bytes + key_id.to_bytes(4, "big")
    return HKDF(SHA256(), FIELD_KEY_BYTES, salt, info).derive(dek)


def fingerprint(dek: bytes, dek_id: int) -> bytes:
    """Returns 16 bytes that commit to the DEK and tell nothing about it."""
    return HKDF(SHA256(), FINGERPRINT_BYTES, None, b"pg_envelope/1 fingerprint" + dek_id.to_bytes(8, "big")).derive(dek)


def canary_salt(dek: bytes, drawn: bytes) -> bytes:
    """Returns the salt of a canary's keys: 16 random bytes, and a mark that nobody sees without the DEK."""
    # Each key of a statement over many subjects is looked at, and HKDF would take thirty times as long.
    return drawn + hmac.digest(dek, b"pg_envelope/1 canary" + drawn, "sha256")[: SALT_BYTES - DRAWN_BYTES]


def is_canary(dek: bytes, salt: bytes) -> bool:
    return same(canary_salt(dek, salt[:DRAWN_BYTES]), salt)


def same(one: bytes, other: bytes) -> bool:
    """Tells whether both are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(one, other)


def context(environment: str, database: UUID, dek_id: int) -> str:
    """Returns the text that a wrap is bound to: FORMAT.md section 2.1."""
    return f"pg_envelope/1 {environment} {database} {dek_id}"
