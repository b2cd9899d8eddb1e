"""XChaCha20-Poly1305, which `cryptography` has with short nonces only: a key for each nonce's first 16 bytes.

Source: draft-irtf-cfrg-xchacha, section 2.2. The cipher itself is that of `cryptography`.
"""

from __future__ import annotations

import struct

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

CONSTANT = struct.unpack("<4I", b"expand 32-byte k")
MASK = 0xFFFFFFFF
# Quarter rounds of a column round and a diagonal round, by the places of their words.
ROUNDS = (
    *((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)),
    *((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)),
)
# Each step adds a word to a word, and turns a third.
STEPS = ((0, 1, 3, 16), (2, 3, 1, 12), (0, 1, 3, 8), (2, 3, 1, 7))


class XChaCha20Poly1305:
    """The key has 32 bytes and the nonce 24. The tag comes behind the ciphertext."""

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise ValueError
        self._key = key

    def decrypt(self, nonce: bytes, data: bytes, aad: bytes | None = None) -> bytes:
        """Raises InvalidTag, or ValueError for a nonce of another length."""
        if len(nonce) != 24:
            raise ValueError
        return ChaCha20Poly1305(hchacha20(self._key, nonce[:16])).decrypt(bytes(4) + nonce[16:], data, aad)


def hchacha20(key: bytes, head: bytes) -> bytes:
    """Returns the key for nonces that begin with these 16 bytes."""
    words = [*CONSTANT, *struct.unpack("<8I", key), *struct.unpack("<4I", head)]
    for _ in range(10):
        for places in ROUNDS:
            _quarter(words, places)
    return struct.pack("<8I", *words[:4], *words[12:])


def _quarter(words: list[int], places: tuple[int, ...]) -> None:
    for summed, added, turned, by in STEPS:
        words[places[summed]] = (words[places[summed]] + words[places[added]]) & MASK
        mixed = words[places[turned]] ^ words[places[summed]]
        words[places[turned]] = (mixed << by | mixed >> 32 - by) & MASK
