"""Seals DEKs for a key that no KMS holds: FORMAT.md section 6. Broker and command use it."""

from __future__ import annotations

import base64
import binascii
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from pg_envelope import errors
from pg_envelope.typed import Final

BACKUP: Final = "keys_backup"
RETURN: Final = "keys_return"
KEY_BYTES: Final = 32
SEALED_BYTES: Final = 80
_PUBLIC: Final = "pg_envelope-break-glass-1:"
_SEALED: Final = "keysbackup1:"
_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class SealPlace:
    """The place and the purpose that a sealed DEK is bound to. A DEK sealed for a backup is no answer to a broker."""

    def __init__(self, purpose: str, environment: str, database: UUID) -> None:
        self._text = f"pg_envelope/1 {purpose} {environment} {database}"

    def info(self, dek_id: int) -> bytes:
        return f"{self._text} {dek_id}".encode()


def seal(public: X25519PublicKey, place: SealPlace, dek_id: int, dek: bytes) -> str:
    """Seals one message by HPKE in base mode."""
    return _SEALED + base64.b64encode(_SUITE.encrypt(dek, public, place.info(dek_id))).decode()


def unseal(private: X25519PrivateKey, place: SealPlace, dek_id: int, sealed: str) -> bytes:
    """Opens a sealed DEK. Raises UnwrapFailed, whatever is wrong."""
    try:
        return _SUITE.decrypt(_content(_SEALED, sealed, SEALED_BYTES), private, place.info(dek_id))
    except (InvalidTag, ValueError):
        raise errors.UnwrapFailed() from None


def public_text(public: X25519PublicKey) -> str:
    """Returns one line without its end."""
    return _PUBLIC + base64.b64encode(public.public_bytes_raw()).decode()


def public_key(text: str) -> X25519PublicKey:
    """Reads a public key. Raises BadInput for a text that `public_text` does not write."""
    try:
        return X25519PublicKey.from_public_bytes(_content(_PUBLIC, text.strip(), KEY_BYTES))
    except ValueError:
        raise errors.BadInput(
            "this is no public break-glass key", hint="pg-envelope keys-backup init makes one."
        ) from None


def _content(prefix: str, text: str, length: int) -> bytes:
    """Raises ValueError."""
    if not text.startswith(prefix):
        raise ValueError
    try:
        content = base64.b64decode(text.removeprefix(prefix), validate=True)
    except binascii.Error:
        raise ValueError from None
    if len(content) != length:
        raise ValueError
    return content
