"""Seals and opens envelopes with one field key: FORMAT.md section 1."""

from __future__ import annotations

import os
from collections.abc import Callable

from pg_envelope import errors, padding
from pg_envelope.suites import KEY_BYTES, PADDED, REFUSALS, suite_of

VERSION = 0xE1
HEADER_BYTES = 6
MAX_VALUE_BYTES = 512 * 1024 * 1024


def header(suite: int, padded: bool, key_id: int) -> bytes:
    """Returns version | suite | key id: 6 bytes."""
    return bytes((VERSION, suite | (PADDED if padded else 0))) + key_id.to_bytes(4, "big")


def _draw(count: int) -> bytes:
    return os.urandom(count)


def key_id(envelope: bytes) -> int:
    """Returns the key id in a header. Raises InvalidEnvelope for anything that is no header of this version."""
    if len(envelope) < HEADER_BYTES or envelope[0] != VERSION:
        raise errors.InvalidEnvelope
    return int.from_bytes(envelope[2:HEADER_BYTES], "big")


class FieldKey:
    """The key of one column (or named key) and header; a session holds such keys.

    Callers use `seal` and `open`. `decrypt`, `nonce_end`, `aad`, `padded` and `left` are for backend/hot.py. `aad` is
    header | field uuid, to which the row key is appended; `nonce_end` is where the ciphertext begins. `epoch` and
    `expires` (monotonic seconds) bound its use. `reserve` returns how many more messages may be sealed, or raises. It
    is asked before the first message and whenever none is left. Without it, and in suites that are not counted, nothing
    is. `draw` returns so many random bytes, and never the same ones twice.
    """

    __slots__ = (
        "_draw",
        "_encrypt",
        "_nonce_bytes",
        "_reserve",
        "aad",
        "decrypt",
        "epoch",
        "expires",
        "head",
        "left",
        "nonce_end",
        "padded",
    )

    def __init__(
        self,
        head: bytes,
        field_uuid: bytes,
        key: bytes,
        expires: float = float("inf"),
        epoch: bytes = b"",
        reserve: Callable[[], int] | None = None,
        draw: Callable[[int], bytes] | None = None,
    ) -> None:
        if len(key) != KEY_BYTES:
            raise errors.Internal
        suite = suite_of(head[1])
        aead = suite.aead(key)
        self._encrypt = aead.encrypt
        self.padded = bool(head[1] & PADDED)
        self._nonce_bytes = suite.nonce_bytes
        self.decrypt = aead.decrypt
        self.nonce_end = HEADER_BYTES + suite.nonce_bytes
        self.head = head
        self.aad = head + field_uuid
        self.expires = expires
        self.epoch = epoch
        counted = reserve is not None and suite.is_counted
        self.left: float = 0 if counted else float("inf")
        self._reserve = reserve
        self._draw = draw or _draw

    def seal(self, content: bytes, row_key: bytes) -> bytes:
        """Returns a new envelope, under a fresh nonce if the suite has one.

        Raises ValueTooLong over 512 MB, and what `reserve` raises.
        """
        if len(content) > MAX_VALUE_BYTES:
            raise errors.ValueTooLong(detail="at most 512 MB")
        if not self.left and self._reserve:
            self.left = self._reserve()
        self.left -= 1
        plaintext = padding.pad(content) if self.padded else content
        nonce = self._draw(self._nonce_bytes)
        return self.head + nonce + self._encrypt(nonce, plaintext, self.aad + row_key)

    def open(self, envelope: bytes, row_key: bytes) -> bytes:
        """Returns the content of an envelope. Raises InvalidEnvelope, whatever is wrong, and for the header of another
        key.
        """
        nonce_end = self.nonce_end
        if envelope[:HEADER_BYTES] != self.head:
            raise errors.InvalidEnvelope
        try:
            plaintext = self.decrypt(envelope[HEADER_BYTES:nonce_end], envelope[nonce_end:], self.aad + row_key)
        except REFUSALS:
            raise errors.InvalidEnvelope from None
        return padding.unpad(plaintext) if self.padded else plaintext
