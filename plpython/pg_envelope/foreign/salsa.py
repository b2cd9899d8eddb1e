"""XSalsa20-Poly1305, the cipher of libsodium's secretbox, which `cryptography` does not have.

Source: Bernstein, "Extending the Salsa20 nonce" and "Cryptography in NaCl". Poly1305 is that of `cryptography`.
"""

from __future__ import annotations

import struct

from cryptography.hazmat.primitives.poly1305 import Poly1305

CONSTANT = struct.unpack("<4I", b"expand 32-byte k")
MASK = 0xFFFFFFFF
TAG_BYTES = 16
# Quarter rounds of a column round and a row round, by the places of their words.
ROUNDS = (
    *((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11)),
    *((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14)),
)
# The words of a state that HSalsa20 gives.
KEPT = (0, 5, 10, 15, 6, 7, 8, 9)

Words = tuple[int, ...]


class XSalsa20Poly1305:
    """The key has 32 bytes and the nonce 24. The tag comes behind the ciphertext, as in other AEADs."""

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise ValueError
        self._key = struct.unpack("<8I", key)

    def decrypt(self, nonce: bytes, data: bytes, aad: bytes | None = None) -> bytes:  # noqa: ARG002 -- as other AEADs
        """Raises InvalidSignature, or ValueError for a nonce of another length."""
        ciphertext, tag = data[:-TAG_BYTES], data[-TAG_BYTES:]
        first = struct.unpack("<4I8x", nonce)
        key = _derived(self._key, first)
        stream = _stream(key, nonce[16:], 32 + len(ciphertext))
        Poly1305.verify_tag(stream[:32], ciphertext, tag)
        return _xor(ciphertext, stream[32:])


def _derived(key: Words, head: Words) -> Words:
    """Returns HSalsa20: a key for the nonce's last eight bytes."""
    mixed = _mixed(_state(key, head))
    return tuple(mixed[place] for place in KEPT)


def _state(key: Words, middle: Words) -> Words:
    return (CONSTANT[0], *key[:4], CONSTANT[1], *middle, CONSTANT[2], *key[4:], CONSTANT[3])


def _stream(key: Words, nonce: bytes, length: int) -> bytes:
    head = struct.unpack("<2I", nonce)
    return b"".join(_block(key, head, number) for number in range(-(-length // 64)))


def _block(key: Words, head: Words, number: int) -> bytes:
    state = _state(key, (*head, number & MASK, number >> 32))
    return struct.pack("<16I", *((a + b) & MASK for a, b in zip(state, _mixed(state), strict=True)))


def _mixed(state: Words) -> list[int]:
    words = list(state)
    for _ in range(10):
        for a, b, c, d in ROUNDS:
            words[b] ^= _turned(words[a] + words[d], 7)
            words[c] ^= _turned(words[b] + words[a], 9)
            words[d] ^= _turned(words[c] + words[b], 13)
            words[a] ^= _turned(words[d] + words[c], 18)
    return words


def _turned(word: int, by: int) -> int:
    word &= MASK
    return (word << by | word >> 32 - by) & MASK


def _xor(left: bytes, right: bytes) -> bytes:
    length = len(left)
    return (int.from_bytes(left, "big") ^ int.from_bytes(right[:length], "big")).to_bytes(length, "big")
