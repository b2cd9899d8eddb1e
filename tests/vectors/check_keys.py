"""The second implementation, for keys that a file or two secrets hold: FORMAT.md sections 2.1, 2.3 and 6.2."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from Crypto.Cipher import AES

from tests.vectors.kdf import hkdf

Vector = dict[str, Any]


def opened(key: bytes, nonce: bytes, sealed: bytes, aad: bytes) -> bytes:
    """AES-256-GCM. Raises ValueError."""
    cipher = AES.new(key, AES.MODE_GCM, nonce=nonce)
    cipher.update(aad)
    return cipher.decrypt_and_verify(sealed[:-16], sealed[-16:])


def scrypt(passphrase: str, salt: bytes, cost: dict[str, int]) -> bytes:
    memory = 256 * cost["n"] * cost["r"]
    return hashlib.scrypt(passphrase.encode(), salt=salt, **cost, maxmem=memory, dklen=32)


def decoded(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def check_keyring(vector: Vector) -> None:
    """A keyring file: section 2.3."""
    held = json.loads(vector["text"])
    kdf, head = held["kdf"], {name: held[name] for name in ("format", "kdf")}
    assert (held["format"], kdf["name"]) == ("pg_envelope keyring 1", "scrypt")
    assert 1 << 14 <= kdf["n"] <= 1 << 20
    assert (kdf["r"], kdf["p"]) == (8, 1)
    key = scrypt(vector["passphrase"], decoded(kdf["salt"]), {name: kdf[name] for name in "nrp"})
    aad = json.dumps(head, sort_keys=True, separators=(",", ":")).encode()
    keks = json.loads(opened(key, decoded(held["nonce"]), decoded(held["sealed"]), aad))["keks"]
    found = {name: {version: decoded(kek).hex() for version, kek in kek.items()} for name, kek in keks.items()}
    assert found == vector["keks"]


def check_secrets_wrap(vector: Vector) -> None:
    """A wrap of provider secrets: section 2.1. It opens to its DEK, or, when it has none, not at all."""
    prefix, version, text = vector["wrapped"].split(":")
    secrets = len(vector["base"]).to_bytes(4, "big") + vector["base"].encode() + vector["purpose"].encode()
    derived = hkdf(secrets, b"", f"pg_envelope/1 secrets {vector['kek']} {version[1:]}".encode(), 40)
    content = decoded(text)
    assert prefix == "secrets"
    if content[:8] != derived[32:]:
        assert vector["dek"] is None
        return
    try:
        dek = opened(derived[:32], content[8:20], content[20:], vector["context"].encode()).hex()
    except ValueError:
        dek = None
    assert dek == vector["dek"]


def check_break_glass(vector: Vector) -> None:
    """A break-glass key in a file: section 6.2. It opens to its key, or, when it has none, not at all."""
    held = json.loads(vector["text"])
    cost = held["scrypt"]
    if cost["n"] > 1 << 20 or cost["r"] > 16 or cost["p"] > 4:
        assert vector["private_key"] is None
        return
    assert held["pg_envelope_break_glass_key"] == 1
    salt, nonce, sealed, public = (decoded(held[name]) for name in ("salt", "nonce", "sealed", "public_key"))
    key = scrypt(vector["passphrase"], salt, cost)
    try:
        private = opened(key, nonce, sealed, b"pg_envelope/1 break-glass key" + public).hex()
    except ValueError:
        private = None
    assert private == vector["private_key"]
