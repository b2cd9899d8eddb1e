"""Implements XAES-256-GCM of C2SP: AES-256-GCM under a key derived from each message's 192-bit nonce."""

from __future__ import annotations

from pg_envelope.aeads import AESGCM

BLOCK = 16
NONCE_BYTES = 24


def _double(block: bytes) -> bytes:
    """Multiplication by x in GF(2^128), the CMAC subkey step (NIST SP 800-38B section 6.1)."""
    shifted = int.from_bytes(block, "big") << 1
    if shifted >> 128:
        shifted = (shifted ^ 0x87) & ((1 << 128) - 1)
    return shifted.to_bytes(BLOCK, "big")


class XAES256GCM:
    """An AEAD over a 32-byte key and 24-byte nonces; the first 12 bytes derive the message's key."""

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise ValueError("XAES-256-GCM takes a key of 32 bytes")
        # The imports are here, because these modules take an eighth of a new connection's imports, and few columns need
        # them.
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        # ECB of single blocks is the construction's own use of AES as a pseudo-random function.
        cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305
        self._encryptor = cipher.encryptor()
        self._subkey = int.from_bytes(_double(self._encryptor.update(bytes(BLOCK))), "big")

    def _message_key(self, nonce: bytes) -> AESGCM:
        if len(nonce) != NONCE_BYTES:
            raise ValueError("XAES-256-GCM takes a nonce of 24 bytes")
        blocks = b"".join(self._masked(counter, nonce[:12]) for counter in (1, 2))
        return AESGCM(self._encryptor.update(blocks))

    def _masked(self, counter: int, salt: bytes) -> bytes:
        block = bytes((0, counter, 0x58, 0)) + salt
        return (int.from_bytes(block, "big") ^ self._subkey).to_bytes(BLOCK, "big")

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Returns ciphertext | tag. Raises ValueError for a nonce of another length."""
        return self._message_key(nonce).encrypt(nonce[12:], data, associated_data)

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Returns the plaintext. Raises InvalidTag, or ValueError for a nonce of another length."""
        return self._message_key(nonce).decrypt(nonce[12:], data, associated_data)
