"""Keys of passphrases, and OpenPGP's own mode of CFB."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.decrepit.ciphers.algorithms import CAST5, Blowfish, TripleDES
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from pg_envelope.foreign.bad import NotOpened

# Bytes of the key and of a block by the number of the cipher.
CIPHERS: dict[int, tuple[Callable[[bytes], Any], int, int]] = {
    2: (TripleDES, 24, 8),
    3: (CAST5, 16, 8),
    4: (Blowfish, 16, 8),
    7: (AES, 16, 16),
    8: (AES, 24, 16),
    9: (AES, 32, 16),
}
DIGESTS = {1: "md5", 2: "sha1", 8: "sha256", 9: "sha384", 10: "sha512", 11: "sha224"}
SIMPLE, SALTED, ITERATED = 0, 1, 3


def stretched(passphrase: bytes, specifier: bytes, length: int) -> tuple[bytes, int]:
    """Returns the key of a passphrase by a string-to-key specifier, and the specifier's length."""
    kind, digest = specifier[0], DIGESTS[specifier[1]]
    if kind == SIMPLE:
        return _hashed(digest, passphrase, length), 2
    salted = specifier[2:10] + passphrase
    if kind == SALTED:
        return _hashed(digest, salted, length), 10
    if kind != ITERATED:
        raise NotOpened
    coded = specifier[10]
    count = max((16 + (coded & 15)) << (coded >> 4) + 6, len(salted))
    repeated = (salted * (count // len(salted) + 1))[:count]
    return _hashed(digest, repeated, length), 11


def _hashed(digest: str, content: bytes, length: int) -> bytes:
    made = b""
    zeros = 0
    while len(made) < length:
        made += hashlib.new(digest, bytes(zeros) + content).digest()
        zeros += 1
    return made[:length]


def key_bytes(cipher: int) -> int:
    return CIPHERS[cipher][1]


def cfb(cipher: int, key: bytes, content: bytes, iv: bytes | None = None) -> bytes:
    """Opens CFB without a second start, as in packets with a check and in session keys."""
    kind, size, block = CIPHERS[cipher]
    if len(key) != size:
        raise NotOpened
    stream = Cipher(kind(key), CFB(iv or bytes(block))).decryptor()
    return stream.update(content) + stream.finalize()


def cfb_sealed(cipher: int, key: bytes, content: bytes) -> bytes:
    kind, _, block = CIPHERS[cipher]
    stream = Cipher(kind(key), CFB(bytes(block))).encryptor()
    return stream.update(content) + stream.finalize()


def cfb_restarted(cipher: int, key: bytes, content: bytes) -> bytes:
    """Opens the old mode without a check, which starts again behind the first block. Returns the content alone."""
    block = CIPHERS[cipher][2]
    head = cfb(cipher, key, content[: block + 2])
    if head[-2:] != head[-4:-2]:
        raise NotOpened
    return cfb(cipher, key, content[block + 2 :], content[2 : block + 2])
