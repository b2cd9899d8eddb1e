"""Derives a layout's key from a passphrase or a base secret."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pg_envelope.foreign.bad import BadLayout

# Derives so many bytes from a secret and a salt.
Derive = Callable[[bytes, bytes], bytes]
HASHES: dict[str, Callable[[], hashes.HashAlgorithm]] = {
    "md5": hashes.MD5,
    "sha1": hashes.SHA1,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
MOST_ROUNDS = 10_000_000
# scrypt's cost, block size and parallelism as node has them by default, and the most of each: 1 GiB of memory.
SCRYPT = {"n": 16384, "r": 8, "p": 1}
MOST_SCRYPT = {"n": 1 << 20, "r": 32, "p": 16}
MOST_MEMORY = 1 << 30
MEMBERS = {
    "none": set(),
    "hash": {"hash", "encoding"},
    "hkdf": {"hash", "salt", "info"},
    "pbkdf2": {"hash", "rounds", "salt"},
    "scrypt": {"salt", *SCRYPT},
    "evp": {"hash"},
    "fold": set(),
}


def derivation(given: Mapping[str, Any], length: int) -> Derive:
    """Returns the function that `kdf` of a specification describes, for `length` bytes. Raises BadLayout."""
    name = given.get("name", "none")
    if name not in tuple(MEMBERS) or set(given) - MEMBERS[name] - {"name", "bytes"}:
        raise BadLayout("kdf names no known derivation", hint=f"Derivations: {_told()}.")
    digest = given.get("hash", "md5" if name == "evp" else "sha256")
    if digest not in tuple(HASHES):
        raise BadLayout("kdf names no known hash", hint=f"Hashes: {', '.join(HASHES)}.")
    return _made(name, digest, given, length)


def _told() -> str:
    return "; ".join(f"{name} ({', '.join(sorted(members))})" if members else name for name, members in MEMBERS.items())


def _made(name: str, digest: str, given: Mapping[str, Any], length: int) -> Derive:
    if name == "hash":
        return _hash(digest, given, length)
    if name == "hkdf":
        return _hkdf(digest, _bytes(given, "info"), length)
    if name == "pbkdf2":
        return _pbkdf2(digest, _rounds(given), length)
    if name == "scrypt":
        return _scrypt(given, length)
    if name == "evp":
        return lambda secret, salt: evp(digest, secret, salt, length)
    if name == "fold":
        return lambda secret, _salt: folded(secret, length)
    return lambda secret, _salt: secret


def _hash(digest: str, given: Mapping[str, Any], length: int) -> Derive:
    """The text form of a hash is a key, too, as PHP's hash() gives it."""
    encoding = given.get("encoding", "raw")
    if encoding not in ("raw", "hex"):
        raise BadLayout("kdf: encoding of a hash must be raw or hex")
    if encoding == "hex":
        return lambda secret, _salt: hashlib.new(digest, secret).hexdigest().encode()[:length]
    return lambda secret, _salt: hashlib.new(digest, secret).digest()[:length]


def _scrypt(given: Mapping[str, Any], length: int) -> Derive:
    n, r, p = (_number(given, name) for name in SCRYPT)
    if n & (n - 1) or n < 2 or 128 * n * r > MOST_MEMORY:
        raise BadLayout("kdf: n must be a power of two, and scrypt may use 1 GiB of memory")
    return lambda secret, salt: hashlib.scrypt(
        secret, salt=salt, n=n, r=r, p=p, maxmem=2 * MOST_MEMORY - 1, dklen=length
    )


def _number(given: Mapping[str, Any], name: str) -> int:
    found = given.get(name, SCRYPT[name])
    if type(found) is not int or not 1 <= found <= MOST_SCRYPT[name]:
        raise BadLayout(f"kdf: {name} must be a number from 1 to {MOST_SCRYPT[name]}")
    return found


def _bytes(given: Mapping[str, Any], member: str) -> bytes:
    found = given.get(member, "")
    if not isinstance(found, str):
        raise BadLayout(f"kdf: {member} must be a text")
    return found.encode()


def salt_of(given: Mapping[str, Any]) -> bytes:
    """Returns the constant salt of a specification. A salt of the value itself goes before it. Raises BadLayout."""
    return _bytes(given, "salt")


def _rounds(given: Mapping[str, Any]) -> int:
    rounds = given.get("rounds")
    if type(rounds) is not int or not 1 <= rounds <= MOST_ROUNDS:
        raise BadLayout(f"kdf: rounds must be a number from 1 to {MOST_ROUNDS}")
    return rounds


def _hkdf(digest: str, info: bytes, length: int) -> Derive:
    def derived(secret: bytes, salt: bytes) -> bytes:
        return hkdf(digest, secret, salt, info, length)

    return derived


def hkdf(digest: str, secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(HASHES[digest](), length, salt, info).derive(secret)


def _pbkdf2(digest: str, rounds: int, length: int) -> Derive:
    def derived(secret: bytes, salt: bytes) -> bytes:
        return hashlib.pbkdf2_hmac(digest, secret, salt, rounds, length)

    return derived


def evp(digest: str, secret: bytes, salt: bytes, length: int) -> bytes:
    """Returns what OpenSSL's EVP_BytesToKey gives with one round: the key, and the IV behind it."""
    made = last = b""
    while len(made) < length:
        last = hashlib.new(digest, last + secret + salt).digest()
        made += last
    return made[:length]


def folded(secret: bytes, length: int) -> bytes:
    """Returns the exclusive or of the secret's parts of `length` bytes, as MySQL makes the key of AES_ENCRYPT()."""
    made = bytearray(length)
    for place, byte in enumerate(secret):
        made[place % length] ^= byte
    return bytes(made)
