"""Vectors of keys that a file or two secrets hold (FORMAT.md sections 2.1, 2.3 and 6.2), made by the package."""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from pg_envelope import break_glass, derivation
from pg_envelope.broker.kms.providers import base, keyring_file, secrets
from tests.vectors.records import DATABASE, DEKS, ENVIRONMENT, PRIVATE, drawn

Vector = dict[str, Any]

PASSPHRASE = "Zoë's six random words"
# Costs of scrypt. A reader of a keyring takes none that is lower.
LOWEST_COST = keyring_file.COSTS.start
LOW_COST = {"n": 1 << 10, "r": 8, "p": 1}
BASE, PURPOSES = "base secret, at least 32 characters", ["first purpose" + "!" * 32, "second purpose" + "!" * 32]


def keyrings() -> Iterator[Vector]:
    """Two KEKs, one of them rotated."""
    labels = ("salt", "nonce 1", "KEK", "nonce 2", "another KEK", "nonce 3", "newer KEK", "nonce 4")
    sizes = (keyring_file.SALT_BYTES, 12, 32, 12, 32, 12, 32, 12)
    drawings = [drawn(f"{label} of a keyring", size) for label, size in zip(labels, sizes, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keyring"
        # The name of a temporary file is drawn in another way.
        with mock.patch.object(os, "urandom", side_effect=drawings):
            keyring_file.create_keyring(path, PASSPHRASE, LOWEST_COST)
            keyring_file.add_kek(path, PASSPHRASE, "default")
            keyring_file.add_kek(path, PASSPHRASE, "tenant-7")
            keyring_file.rotate(path, PASSPHRASE, "default")
        text = path.read_text()
    _, _, first, _, second, _, newer, _ = drawings
    keks = {"default": {"1": first.hex(), "2": newer.hex()}, "tenant-7": {"1": second.hex()}}
    yield {"name": "two KEKs, one rotated", "passphrase": PASSPHRASE, "keks": keks, "text": text}


def secrets_wraps() -> Iterator[Vector]:
    yield _secrets_wrap("first version", 1)
    yield _secrets_wrap("second version", 2)
    yield _secrets_wrap("another base secret", 1, dek=None, base_secret="x" * 40)
    yield _secrets_wrap("moved to another DEK id", 1, dek=None, dek_id=8)


def _secrets_wrap(
    name: str, version: int, dek: bytes | None = DEKS[7], dek_id: int = 7, base_secret: str = BASE
) -> Vector:
    """`dek` is None for a wrap that must not open."""
    keks = {
        number: secrets._kek(BASE.encode(), purpose.encode(), "default", number)
        for number, purpose in enumerate(PURPOSES[:version], 1)
    }
    item = base.Plain(derivation.context(ENVIRONMENT, DATABASE, 7), DEKS[7])
    with mock.patch.object(os, "urandom", return_value=drawn(f"nonce of secrets {version}", 12)):
        wrapped = secrets._wrapped(keks, item)
    return {
        "name": name,
        "kek": "default",
        "base": base_secret,
        "purpose": PURPOSES[version - 1],
        "context": derivation.context(ENVIRONMENT, DATABASE, dek_id),
        "wrapped": wrapped,
        "dek": dek and dek.hex(),
    }


def break_glass_files() -> Iterator[Vector]:
    drawings = [drawn(f"{label} of a break-glass key", size) for label, size in (("salt", 16), ("nonce", 12))]
    with mock.patch.object(os, "urandom", side_effect=drawings):
        text = break_glass.write(X25519PrivateKey.from_private_bytes(PRIVATE), PASSPHRASE, LOW_COST)
    yield _break_glass("low cost", text.decode(), PRIVATE)
    cost = json.loads(text)
    cost["scrypt"]["p"] = 5
    yield _break_glass("a cost that is too high", json.dumps(cost), None)
    other = {**json.loads(text), "public_key": base64.b64encode(bytes(32)).decode()}
    yield _break_glass("another public key", json.dumps(other), None)


def _break_glass(name: str, text: str, private: bytes | None) -> Vector:
    """`private_key` is None for a file that must be refused."""
    return {"name": name, "passphrase": PASSPHRASE, "private_key": private and private.hex(), "text": text}
