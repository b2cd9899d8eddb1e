"""Implements suite 4, AES-256-SIV of RFC 5297 without a nonce: equal plaintexts in one place give equal ciphertexts."""

from __future__ import annotations

from pg_envelope.aeads import AESSIV

KEY_BYTES = 32
SIV_KEY_BYTES = 64
TAG_BYTES = 16
INFO = b"pg_envelope/1 siv"


class AES256SIV:
    """A deterministic AEAD over a field key and no nonce. The tag stands last, as in the other suites; RFC 5297 has it
    first.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError("AES-256-SIV takes a key of 32 bytes")
        self._aead = AESSIV(_siv_key(key))

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Returns ciphertext | tag. Raises ValueError for a nonce."""
        _refuse_nonce(nonce)
        sealed = self._aead.encrypt(data, [associated_data or b""])
        return sealed[TAG_BYTES:] + sealed[:TAG_BYTES]

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Returns the plaintext. Raises InvalidTag, or ValueError for a nonce."""
        _refuse_nonce(nonce)
        return self._aead.decrypt(data[-TAG_BYTES:] + data[:-TAG_BYTES], [associated_data or b""])


def _siv_key(key: bytes) -> bytes:
    """A key of its own, because a field key serves the other suites, too: a reader follows the header."""
    # The imports are here, because few columns need them, and a new connection's first read waits for its imports.
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), SIV_KEY_BYTES, None, INFO).derive(key)


def _refuse_nonce(nonce: bytes) -> None:
    if nonce:
        raise ValueError("AES-256-SIV takes no nonce here")
