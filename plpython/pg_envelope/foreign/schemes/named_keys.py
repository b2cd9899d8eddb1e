"""Layouts whose values name their key: Vault's transit with an exported key, Tink, and MongoDB's CSFLE."""

from __future__ import annotations

import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pg_envelope.foreign.bad import BadLayout, NotOpened
from pg_envelope.foreign.ciphers import cbc_of
from pg_envelope.foreign.encodings import from_base64
from pg_envelope.foreign.keys import LegacyKey
from pg_envelope.foreign.reader import ForeignReader
from pg_envelope.foreign.schemes.jwe import check_mac

VAULT, NONCE_BYTES, TAG_BYTES = b"vault", 12, 16
TINK_PREFIX, TINK_AT = 1, 5
# Source: the specification of Client-Side Field Level Encryption. 1 is deterministic, 2 is random.
MONGO_KINDS, MONGO_AT, MONGO_MAC_BYTES, MONGO_STRING, MONGO_BINARY = (1, 2), 18, 32, 2, 5


def _named(key: LegacyKey, form: str) -> dict[str, bytes]:
    if not key.named or key.form != form:
        raise BadLayout(f"this layout needs a legacy key that was imported with --format {form}")
    return key.named


def vault(key: LegacyKey) -> ForeignReader:
    """vault:vN: and the base64 of nonce, ciphertext and tag, under AES-256-GCM without a context."""
    aeads = {version: AESGCM(secret) for version, secret in _named(key, "vault").items()}

    def opened(value: bytes) -> bytes:
        version, content = _of_vault(value)
        return aeads[version].decrypt(content[:NONCE_BYTES], content[NONCE_BYTES:], None)

    return ForeignReader(opened, vault_shape, authenticates=True, is_marked=True)


def vault_shape(value: bytes) -> bytes:
    return _of_vault(value)[1]


def _of_vault(value: bytes) -> tuple[str, bytes]:
    name, version, text = value.strip().split(b":", 2)
    content = from_base64(text)
    if name != VAULT or len(content) < NONCE_BYTES + TAG_BYTES:
        raise NotOpened
    return version.decode(), content


def tink(key: LegacyKey) -> ForeignReader:
    """01 | key id (4) | nonce (12) | ciphertext | tag: AES-GCM with the output prefix TINK and no associated data."""
    aeads = {bytes.fromhex(name): AESGCM(secret) for name, secret in _named(key, "tink").items()}

    def opened(value: bytes) -> bytes:
        tink_shape(value)
        return aeads[value[1:TINK_AT]].decrypt(
            value[TINK_AT : TINK_AT + NONCE_BYTES], value[TINK_AT + NONCE_BYTES :], None
        )

    return ForeignReader(opened, tink_shape, authenticates=True, is_marked=False)


def tink_shape(value: bytes) -> bytes:
    if len(value) < TINK_AT + NONCE_BYTES + TAG_BYTES or value[0] != TINK_PREFIX:
        raise NotOpened
    return value


def mongo(key: LegacyKey) -> ForeignReader:
    """Kind | key uuid (16) | BSON type | IV (16) | ciphertext | MAC (32); strings and binaries only."""
    keys = {bytes.fromhex(name): (secret[:32], cbc_of(secret[32:64])) for name, secret in _named(key, "mongo").items()}

    def opened(value: bytes) -> bytes:
        mongo_shape(value)
        head, content, tag = value[:MONGO_AT], value[MONGO_AT:-MONGO_MAC_BYTES], value[-MONGO_MAC_BYTES:]
        mac_key, decrypt = keys[head[1:17]]
        check_mac("sha512", mac_key, head, content, tag, MONGO_MAC_BYTES)
        return _of_bson(head[17], decrypt(content[:16], content[16:]))

    return ForeignReader(opened, mongo_shape, authenticates=True, is_marked=False)


def mongo_shape(value: bytes) -> bytes:
    if len(value) < MONGO_AT + 2 * 16 + MONGO_MAC_BYTES or value[0] not in MONGO_KINDS or (len(value) - MONGO_AT) % 16:
        raise NotOpened
    return value


def _of_bson(kind: int, content: bytes) -> bytes:
    (length,) = struct.unpack_from("<i", content)
    if kind == MONGO_STRING and len(content) == 4 + length:
        return content[4:-1]
    if kind == MONGO_BINARY and len(content) == 5 + length:
        return content[5:]
    raise NotOpened
