"""The break-glass private key in a file, under a passphrase: FORMAT.md section 6.2."""

from __future__ import annotations

import base64
import json
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from pg_envelope import errors
from pg_envelope.typed import Any

VERSION = 1
PURPOSE = b"pg_envelope/1 break-glass key"
# Each guess costs 128 MiB and a third of a second. The cost is bounded when a file is read, because the file may be
# another person's.
COST = {"n": 1 << 17, "r": 8, "p": 1}
MOST_COST = {"n": 1 << 20, "r": 16, "p": 4}
LEAST_LETTERS = 16


def write(private: X25519PrivateKey, passphrase: str, cost: dict[str, int] = COST) -> bytes:
    """Returns the file's content. Raises BadInput when the passphrase is short, because nothing else guards the file.

    `cost` is scrypt's; only tests choose a low one.
    """
    if len(passphrase) < LEAST_LETTERS:
        raise errors.BadInput(
            f"the passphrase must have at least {LEAST_LETTERS} characters", hint="Six random words are good."
        )
    public, salt, nonce = private.public_key().public_bytes_raw(), os.urandom(16), os.urandom(12)
    key = Scrypt(salt, 32, **cost).derive(passphrase.encode())
    sealed = AESGCM(key).encrypt(nonce, private.private_bytes_raw(), PURPOSE + public)
    parts = {"public_key": public, "salt": salt, "nonce": nonce, "sealed": sealed}
    content = {"pg_envelope_break_glass_key": VERSION, "scrypt": cost} | {
        name: _base64(part) for name, part in parts.items()
    }
    return json.dumps(content, indent=2).encode() + b"\n"


def read(content: bytes, passphrase: str) -> X25519PrivateKey:
    """Returns the private key. Raises BadInput for a damaged file, another version, or a wrong passphrase."""
    try:
        found = json.loads(content)
        cost = {name: _bounded(found["scrypt"][name], most) for name, most in MOST_COST.items()}
        parts = {
            name: base64.b64decode(found[name], validate=True) for name in ("public_key", "salt", "nonce", "sealed")
        }
        if found["pg_envelope_break_glass_key"] != VERSION:
            raise ValueError
        key = Scrypt(parts["salt"], 32, **cost).derive(passphrase.encode())
        private = AESGCM(key).decrypt(parts["nonce"], parts["sealed"], PURPOSE + parts["public_key"])
        return X25519PrivateKey.from_private_bytes(private)
    except InvalidTag:
        raise errors.BadInput("the passphrase does not open the key file") from None
    except (LookupError, TypeError, ValueError):
        raise errors.BadInput("this is no break-glass key file, or it is damaged") from None


def _bounded(value: Any, most: int) -> int:
    if type(value) is not int or not 0 < value <= most:
        raise ValueError
    return value


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
