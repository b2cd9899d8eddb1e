"""The way out: writes values in the forms of other software, so that nobody is locked in."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pg_envelope.foreign.bad import FAILS, BadLayout
from pg_envelope.foreign.encodings import base64_of
from pg_envelope.foreign.keys import LegacyKey
from pg_envelope.foreign.openpgp.packets import packet
from pg_envelope.foreign.openpgp.symmetric import cfb_sealed, key_bytes, stretched
from pg_envelope.foreign.schemes.fernet import key_text

# A text is written as UTF-8. Some formats tell texts from bytes.
Write = Callable[[str | bytes], bytes | str]
AES256, SHA256, ITERATED = 9, 8, 3
BLOCK_BYTES, SALT_BYTES, NONCE_BYTES, TAG_BYTES = 16, 8, 12, 16
# 65,011,712 bytes would be hashed for each value with the highest count. This one hashes 65,536, as pgcrypto does.
COUNT = 96


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def node_json(key: LegacyKey) -> Write:
    """Writes the object that the format node_json reads."""
    aead = AESGCM(key.secrets[0])

    def written(content: str | bytes) -> str:
        nonce = os.urandom(NONCE_BYTES)
        sealed = aead.encrypt(nonce, _bytes(content), None)
        parts = {"ciphertext": sealed[:-TAG_BYTES], "iv": nonce, "authTag": sealed[-TAG_BYTES:]}
        told = {name: base64_of(part) for name, part in parts.items()}
        return json.dumps({**told, "algorithm": "aes-256-gcm", "version": 1}, separators=(",", ":"))

    return written


def fernet(key: LegacyKey) -> Write:
    token = Fernet(key_text(key.secrets[0])).encrypt
    return lambda content: token(_bytes(content)).decode()


def pgp_sym(key: LegacyKey) -> Write:
    """Writes messages that pgcrypto and gpg read: AES-256, with a check of integrity, a salt for each value."""
    return lambda content: _message(key.secrets[0], content)


def _message(passphrase: bytes, content: str | bytes) -> bytes:
    """pgp_sym_decrypt refuses binary content, and gpg takes the carriage returns out of texts."""
    kind = b"u" if isinstance(content, str) else b"b"
    specifier = bytes((ITERATED, SHA256)) + os.urandom(SALT_BYTES) + bytes((COUNT,))
    session_key, _ = stretched(passphrase, specifier, key_bytes(AES256))
    literal = packet(11, kind + b"\x00" + int(time.time()).to_bytes(4, "big") + _bytes(content))
    start = os.urandom(BLOCK_BYTES)
    checked = start + start[-2:] + literal + b"\xd3\x14"
    digest = hashlib.sha1(checked).digest()  # noqa: S324 -- the format has no other hash
    sealed = cfb_sealed(AES256, session_key, checked + digest)
    return packet(3, bytes((4, AES256)) + specifier) + packet(18, b"\x01" + sealed)


# The makers of writers, and whether they write bytes.
WRITERS: dict[str, tuple[Callable[[LegacyKey], Write], bool]] = {
    "pgp_sym": (pgp_sym, True),
    "fernet": (fernet, False),
    "node_json": (node_json, False),
}


def writer_of(form: str, key: LegacyKey) -> Write:
    """Raises BadLayout for a format that is not written, and for a key that does not fit it."""
    if form not in WRITERS:
        raise BadLayout(f"export writes: {', '.join(WRITERS)}", hint="docs/adopt.md tells more.")
    try:
        write = WRITERS[form][0](key)
        write(b"")
    except FAILS:
        raise BadLayout(
            f"the key does not fit the format {form}", hint="pgp_sym takes a text, fernet its own keys, node_json hex."
        ) from None
    return write
