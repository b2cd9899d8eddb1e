"""XAES-256-GCM, beside its published vectors (tests/vectors)."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidTag

from pg_envelope.xaes import NONCE_BYTES, XAES256GCM

KEY = bytes(range(32))
NONCE = bytes(range(NONCE_BYTES))


@pytest.mark.parametrize("nonce_bytes", [0, 12, 23, 25])
def test_another_nonce_length_is_refused(nonce_bytes: int) -> None:
    aead = XAES256GCM(KEY)
    sealed = aead.encrypt(NONCE, b"content", b"")
    with pytest.raises(ValueError, match="24 bytes"):
        aead.encrypt(bytes(nonce_bytes), b"content", b"")
    with pytest.raises(ValueError, match="24 bytes"):
        aead.decrypt(bytes(nonce_bytes), sealed, b"")


@pytest.mark.parametrize("place", range(NONCE_BYTES))
def test_every_byte_of_the_nonce_counts(place: int) -> None:
    aead = XAES256GCM(KEY)
    sealed = aead.encrypt(NONCE, b"content", b"")
    changed = bytearray(NONCE)
    changed[place] ^= 1
    with pytest.raises(InvalidTag):
        aead.decrypt(bytes(changed), sealed, b"")


def test_one_object_serves_many_messages() -> None:
    aead, other = XAES256GCM(KEY), XAES256GCM(KEY)
    sealed = [aead.encrypt(bytes([i]) * NONCE_BYTES, b"content", b"") for i in range(3)]
    assert len(set(sealed)) == 3
    for i in reversed(range(3)):
        assert other.decrypt(bytes([i]) * NONCE_BYTES, sealed[i], b"") == b"content"
