"""Field keys and fingerprints against HKDF written out with the standard library (RFC 5869)."""

from __future__ import annotations

import hmac
from uuid import UUID

from pg_envelope import derivation

DEK = bytes(range(32))
UUID_TEXT = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"


def hkdf(key, salt, info, length):
    """One block is enough for 32 bytes."""
    extracted = hmac.digest(salt, key, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")[:length]


def test_field_key():
    salt = b"s" * 32
    info = b"pg_envelope/1 field" + bytes.fromhex(UUID_TEXT.replace("-", "")) + b"\x00\x00\x00\x07"
    assert derivation.field_key(DEK, salt, UUID(UUID_TEXT), 7) == hkdf(DEK, salt, info, 32)


def test_fingerprint():
    expected = hkdf(DEK, bytes(32), b"pg_envelope/1 fingerprint" + (258).to_bytes(8, "big"), 16)
    assert derivation.fingerprint(DEK, 258) == expected


def test_context():
    assert derivation.context("prod", UUID(UUID_TEXT.upper()), 12) == f"pg_envelope/1 prod {UUID_TEXT} 12"
