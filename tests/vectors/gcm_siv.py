"""AES-256-GCM-SIV after RFC 8452, written for the checker from single AES blocks: slow, and only for that."""

from __future__ import annotations

from Crypto.Cipher import AES

BLOCK = 16
# x^128 + x^127 + x^126 + x^121 + 1, RFC 8452 section 3.
POLYNOMIAL = (1 << 128) | (1 << 127) | (1 << 126) | (1 << 121) | 1


def _halve(element: int) -> int:
    """element * x^-1: the polynomial's constant term makes an odd element divisible by x."""
    return (element ^ POLYNOMIAL if element & 1 else element) >> 1


def _dot(multiples: list[int], element: int) -> int:
    """element * h * x^-128, where multiples[i] = h * x^(i-128)."""
    product = 0
    for power, multiple in enumerate(multiples):
        if element >> power & 1:
            product ^= multiple
    return product


def polyval(key: bytes, data: bytes) -> bytes:
    """RFC 8452 section 3, over data of whole blocks."""
    multiples: list[int] = []
    element = int.from_bytes(key, "little")
    for _ in range(128):
        element = _halve(element)
        multiples.insert(0, element)
    state = 0
    for start in range(0, len(data), BLOCK):
        state = _dot(multiples, state ^ int.from_bytes(data[start : start + BLOCK], "little"))
    return state.to_bytes(BLOCK, "little")


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def _derive(key: bytes, nonce: bytes) -> tuple[bytes, bytes]:
    """Section 4: the message's authentication key (16 bytes) and encryption key (32 bytes)."""
    blocks = AES.new(key, AES.MODE_ECB)
    halves = [blocks.encrypt(counter.to_bytes(4, "little") + nonce)[:8] for counter in range(6)]
    return b"".join(halves[:2]), b"".join(halves[2:])


def _tag(keys: tuple[bytes, bytes], nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
    lengths = (len(aad) * 8).to_bytes(8, "little") + (len(plaintext) * 8).to_bytes(8, "little")
    hashed = bytearray(polyval(keys[0], _padded(aad) + _padded(plaintext) + lengths))
    for place, byte in enumerate(nonce):
        hashed[place] ^= byte
    hashed[15] &= 0x7F
    return AES.new(keys[1], AES.MODE_ECB).encrypt(bytes(hashed))


def _stream(key: bytes, tag: bytes, data: bytes) -> bytes:
    """AES-CTR whose 32-bit little-endian counter starts in the tag; the same both ways."""
    start, rest = int.from_bytes(tag[:4], "little"), tag[4:15] + bytes([tag[15] | 0x80])
    counters = ((start + i) % (1 << 32) for i in range(-(-len(data) // BLOCK)))
    stream = AES.new(key, AES.MODE_ECB).encrypt(b"".join(c.to_bytes(4, "little") + rest for c in counters))
    return bytes(a ^ b for a, b in zip(data, stream, strict=False))


class GcmSiv:
    """One message, with the methods that PyCryptodome's AEADs have."""

    def __init__(self, key: bytes, nonce: bytes) -> None:
        self._keys, self._nonce, self._aad = _derive(key, nonce), nonce, b""

    def update(self, aad: bytes) -> None:
        self._aad = aad

    def encrypt_and_digest(self, plaintext: bytes) -> tuple[bytes, bytes]:
        tag = _tag(self._keys, self._nonce, plaintext, self._aad)
        return _stream(self._keys[1], tag, plaintext), tag

    def decrypt_and_verify(self, ciphertext: bytes, tag: bytes) -> bytes:
        plaintext = _stream(self._keys[1], tag, ciphertext)
        if _tag(self._keys, self._nonce, plaintext, self._aad) != tag:
            raise ValueError("the tag differs")
        return plaintext
