"""Checks the HMAC of a layout whose cipher does not authenticate: encrypt, then MAC."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pg_envelope.foreign.bad import BadLayout, NotOpened
from pg_envelope.foreign.derivations import HASHES, Derive, derivation, salt_of
from pg_envelope.foreign.json_forms import Parts
from pg_envelope.hmacs import HashOf

KEYS = ("last", "first", "same")
OVER = ("iv", "ct", "salt", "aad", "magic")
MEMBERS = {"hash", "over", "key", "key_bytes", "kdf", "salted"}
# A shorter tag could be guessed.
LEAST_BYTES = 16
HINT = (
    'For example {"hash": "sha256", "over": ["iv", "ct"], "key": "last"}: the key of the HMAC is the last part of the'
    " secret, the first part, or the same key, or it has a kdf of its own."
)


@dataclass(frozen=True)
class Mac:
    """`place` says where the key lies in the secret. `derive` makes a key of its own; then there is no place.

    `salted`: it does so with the salt of each value.
    """

    digest: str
    over: tuple[str, ...]
    place: str
    key_bytes: int
    derive: Derive | None
    salt: bytes
    salted: bool = False

    @property
    def tag_bytes(self) -> int:
        return hashlib.new(self.digest).digest_size

    def beside(self) -> int:
        """Returns how many bytes of key this needs beside the cipher's own."""
        return 0 if self.derive or self.place == "same" else self.key_bytes

    def keys(self, secret: bytes, salt: bytes, material: bytes, key_bytes: int) -> tuple[bytes, bytes]:
        """Returns the key of the cipher, and that of the HMAC. `material` has both, or the cipher's alone."""
        if self.derive:
            return material, self.derive(secret, self.salt + (salt if self.salted else b""))
        if self.place == "same":
            return material, material
        if self.place == "last":
            return material[:key_bytes], material[key_bytes:]
        return material[-key_bytes:], material[:-key_bytes]

    def check(self, made_of: HashOf, parts: Parts) -> None:
        """`made_of` is what hmac_of() returns. Raises NotOpened. A tag may be cut to 16 bytes."""
        content = b"".join(parts.get(name, b"") for name in self.over)
        tag, made = parts.get("tag", b""), made_of(content)
        if len(tag) < LEAST_BYTES or not hmac.compare_digest(made[: len(tag)], tag):
            raise NotOpened


def mac(given: Mapping[str, Any]) -> Mac | None:
    """Reads the member hmac of a specification. Raises BadLayout."""
    told = given.get("hmac")
    if told is None:
        return None
    if not isinstance(told, dict) or set(told) - MEMBERS:
        raise BadLayout("hmac has unknown members", hint=HINT)
    digest, over, place = told.get("hash", "sha256"), told.get("over", ["iv", "ct"]), told.get("key", "last")
    kdf, key_bytes = told.get("kdf"), told.get("key_bytes", 32)
    if digest not in tuple(HASHES) or place not in KEYS or not isinstance(over, list) or "ct" not in over:
        raise BadLayout("hmac needs a known hash and key, and what it is over", hint=HINT)
    if any(name not in OVER for name in over) or type(key_bytes) is not int or not 1 <= key_bytes <= 64:
        raise BadLayout("hmac is over iv, ct, salt, aad or magic, with a key of 1 to 64 bytes", hint=HINT)
    if not isinstance(kdf, dict | None):
        raise BadLayout("kdf must be an object", hint=HINT)
    salted = told.get("salted", False)
    if type(salted) is not bool or (salted and not kdf):
        raise BadLayout("salted of an hmac is true or false, and goes with a kdf", hint=HINT)
    derive = derivation(kdf, key_bytes) if kdf else None
    return Mac(digest, tuple(over), place, key_bytes, derive, salt_of(kdf or {}), salted)
