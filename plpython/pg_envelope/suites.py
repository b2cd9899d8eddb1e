"""Gives all AEADs of an envelope one shape: FORMAT.md section 1.

seal(nonce, plaintext, aad) → ciphertext | tag          open(nonce, ciphertext | tag, aad) → plaintext
"""

from __future__ import annotations

from collections.abc import Callable

from pg_envelope import errors, fips, siv, xaes
from pg_envelope.aeads import AESGCM, AESGCMSIV, ChaCha20Poly1305, InvalidTag
from pg_envelope.suite_names import SUITE_NAMES
from pg_envelope.typed import NamedTuple, Protocol

TAG_BYTES = 16
KEY_BYTES = 32
PADDED = 0x80
# Nonces of this length are never alike by chance.
LONG_NONCE_BYTES = 24

# The AEADs raise these for bytes that do not authenticate, or that are too short to.
REFUSALS = (InvalidTag, ValueError)


class Aead(Protocol):
    """An AEAD of `cryptography`. Its parameters are positional, because their names differ there."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes: ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes: ...


class Suite(NamedTuple):
    """One row of the table in FORMAT.md section 1; sizes in bytes."""

    number: int
    name: str
    nonce_bytes: int
    aead: Callable[[bytes], Aead]

    @property
    def is_deterministic(self) -> bool:
        """True when equal values in one place have equal envelopes, because there is no nonce."""
        return not self.nonce_bytes

    @property
    def is_counted(self) -> bool:
        """True when nonces are so short that they bound the messages under a key: FORMAT.md 1.4."""
        return 0 < self.nonce_bytes < LONG_NONCE_BYTES


def _suite(number: int, nonce_bytes: int, aead: Callable[[bytes], Aead]) -> Suite:
    return Suite(number, SUITE_NAMES[number], nonce_bytes, aead)


SUITES = {
    suite.number: suite
    for suite in (
        _suite(1, 12, AESGCM),
        _suite(2, 24, xaes.XAES256GCM),
        _suite(3, 12, ChaCha20Poly1305),
        _suite(4, 0, siv.AES256SIV),
        _suite(5, 12, AESGCMSIV),
    )
}
DEFAULT = 1
# The FIPS provider has no cipher but AES-GCM. XAES-256-GCM is made of AES alone.
WITH_FIPS = frozenset({1, 2})
INSTEAD = "Use suite 1 or 2. Values of other suites are read in sessions without fips = true."


def suite_of(suite_byte: int) -> Suite:
    """Returns the suite of a header's second byte, without its padding bit.

    Raises InvalidEnvelope when there is none, and Unsupported when the FIPS provider leaves it out.
    """
    suite = SUITES.get(suite_byte & ~PADDED)
    if suite is None:
        raise errors.InvalidEnvelope
    if suite.number not in WITH_FIPS:
        fips.refuse(f"suite {suite.number} ({suite.name})", INSTEAD)
    return suite
