"""The second implementation's envelopes: FORMAT.md section 1. It shares nothing with the package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from Crypto.Cipher import AES, ChaCha20_Poly1305

from tests.vectors.gcm_siv import GcmSiv
from tests.vectors.kdf import hkdf

Cipher = Callable[[bytes, bytes], Any]


class Malformed(Exception):
    """Says which rule an envelope breaks: version, suite, length, tag or padding."""


def gcm(key: bytes, nonce: bytes) -> Any:
    return AES.new(key, AES.MODE_GCM, nonce=nonce)


def chacha(key: bytes, nonce: bytes) -> Any:
    return ChaCha20_Poly1305.new(key=key, nonce=nonce)


def xaes(key: bytes, nonce: bytes) -> Any:
    """C2SP: one CMAC block makes each half of the message's key, from the first half of the nonce."""
    blocks = AES.new(key, AES.MODE_ECB)
    bits = f"{int.from_bytes(blocks.encrypt(bytes(16)), 'big'):0128b}"
    subkey = int(bits[1:] + "0", 2) ^ (0x87 if bits[0] == "1" else 0)
    inputs = [int.from_bytes(bytes([0, half, ord("X"), 0]) + nonce[:12], "big") ^ subkey for half in (1, 2)]
    return gcm(b"".join(blocks.encrypt(block.to_bytes(16, "big")) for block in inputs), nonce[12:])


def siv_of(key: bytes) -> Any:
    """RFC 5297, whose cipher takes an empty nonce for one more component: so it gets none."""
    return AES.new(key, AES.MODE_SIV)


def siv(key: bytes, nonce: bytes) -> Any:
    assert not nonce
    return siv_of(hkdf(key, b"", b"pg_envelope/1 siv", 64))


# Nonce bytes, and what makes a cipher for one message.
SUITES: dict[int, tuple[int, Cipher]] = {
    1: (12, gcm),
    2: (24, xaes),
    3: (12, chacha),
    4: (0, siv),
    5: (12, GcmSiv),
}


def seal(suite: int, key: bytes, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """ciphertext | tag."""
    cipher = SUITES[suite][1](key, nonce)
    cipher.update(aad)
    return b"".join(cipher.encrypt_and_digest(plaintext))


def unseal(suite: int, key: bytes, nonce: bytes, sealed: bytes, aad: bytes) -> bytes:
    """The plaintext. Raises Malformed."""
    cipher = SUITES[suite][1](key, nonce)
    cipher.update(aad)
    try:
        return bytes(cipher.decrypt_and_verify(sealed[:-16], sealed[-16:]))
    except ValueError:
        raise Malformed("tag") from None


def padme(n: int) -> int:
    """The PADMÉ length, step by step as section 1.2 writes it."""
    if n < 2:
        return n
    e = max(power for power in range(64) if 2**power <= n)
    s = max(power for power in range(64) if 2**power <= e) + 1
    while n % 2 ** (e - s):
        n += 1
    return n


def open_envelope(envelope: bytes, field_key: bytes, field_uuid: UUID, row_key: str) -> bytes:
    """The content: section 1. Raises Malformed."""
    if len(envelope) < 6:
        raise Malformed("length")
    if envelope[0] != 0xE1:
        raise Malformed("version")
    padded, number = divmod(envelope[1], 128)
    if number not in SUITES:
        raise Malformed("suite")
    nonce_end = 6 + SUITES[number][0]
    if len(envelope) < nonce_end + 16:
        raise Malformed("length")
    aad = envelope[:6] + field_uuid.bytes + row_key.encode()
    plaintext = unseal(number, field_key, envelope[6:nonce_end], envelope[nonce_end:], aad)
    return _stripped(plaintext) if padded else plaintext


def _stripped(plaintext: bytes) -> bytes:
    end = len(plaintext)
    while end and plaintext[end - 1] == 0:
        end -= 1
    if not end or plaintext[end - 1] != 0x80:
        raise Malformed("padding")
    return plaintext[: end - 1]


def row_key_of(columns: list[str]) -> str:
    """Section 1.1, for the primary key's canonical texts; none when the column is bound by column only."""
    return columns[0] if len(columns) == 1 else "".join(f"{len(column)}:{column}" for column in columns)
