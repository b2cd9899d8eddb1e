"""AES-256-GCM under a KEK that the broker itself holds: FORMAT.md section 2.1, providers `keyring` and `secrets`."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pg_envelope import errors
from pg_envelope.broker.kms.providers import base

NONCE_BYTES = 12


def wrap(prefix: str, version: int, kek: bytes, item: base.Plain) -> str:
    return base.compose(prefix, version, seal(kek, item))


def seal(kek: bytes, item: base.Plain) -> bytes:
    """nonce | ciphertext | tag, with the context as AAD."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(kek).encrypt(nonce, item.dek, item.context.encode())


def unwrap(kek: bytes, sealed: bytes, context: str) -> bytes:
    """The DEK. Raises UnwrapFailed."""
    try:
        return base.a_dek(AESGCM(kek).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context.encode()))
    except (ValueError, InvalidTag):
        raise errors.UnwrapFailed() from None
