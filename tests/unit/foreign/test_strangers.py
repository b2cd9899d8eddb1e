"""Layouts that strangers might use, written here by hand, and read by a specification alone."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import os
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from pg_envelope import errors
from pg_envelope.foreign.detection import PARTLY, kind
from pg_envelope.foreign.keys import parse
from pg_envelope.foreign.presets import reader_of

KEY, OLDER, MAC_KEY = bytes(range(32)), b"o" * 32, bytes(range(100, 132))
PHRASE = b"of the application"


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def gcm(plain: bytes, key: bytes = KEY, aad: bytes | None = None, iv_bytes: int = 12) -> tuple[bytes, bytes, bytes]:
    """IV, ciphertext, tag."""
    iv = os.urandom(iv_bytes)
    sealed = AESGCM(key).encrypt(iv, plain, aad)
    return iv, sealed[:-16], sealed[-16:]


def cbc(plain: bytes, key: bytes) -> tuple[bytes, bytes]:
    """IV, ciphertext."""
    iv, padder = os.urandom(16), padding.PKCS7(128).padder()
    stream = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return iv, stream.update(padder.update(plain) + padder.finalize()) + stream.finalize()


def nested(plain: bytes) -> str:
    """A document of another team: two objects, each part in another encoding."""
    iv, ct, tag = gcm(plain)
    return json.dumps(
        {"alg": "A256GCM", "enc": {"body": url(ct), "meta": {"nonce": iv.hex()}}, "sig": b64(tag)}, indent=1
    )


def versioned(plain: bytes) -> str:
    iv, ct, tag = gcm(plain, KEY[:24])
    return "v1:" + url(iv + ct + tag)


def in_words(plain: bytes) -> str:
    iv = os.urandom(12)
    return f"ENC({b64(iv + ChaCha20Poly1305(KEY).encrypt(iv, plain, b'ssn'))})"


def key_in_prefix(plain: bytes) -> str:
    """The first part names the key: values of two keys are in the column."""
    name, key = ("k2", KEY) if len(plain) % 2 else ("k1", OLDER)
    iv, ct, tag = gcm(plain, key)
    return f"{name}.{url(iv)}.{url(ct + tag)}"


def tag_before_iv(plain: bytes) -> str:
    iv, ct, tag = gcm(plain, iv_bytes=16)
    return "\\x" + (ct + tag + iv).hex()


def zipped(plain: bytes) -> bytes:
    iv, ct, tag = gcm(gzip.compress(json.dumps(plain.decode()).encode()))
    return iv + ct + tag


def then_mac(plain: bytes) -> str:
    iv, ct = cbc(plain, KEY)
    return b64(iv + ct + hmac.digest(MAC_KEY, iv + ct, "sha256"))


def crypt_like(plain: bytes) -> str:
    """As passwords are stored: an empty part in front, and the parameters of the derivation."""
    salt = os.urandom(16)
    iv, ct, tag = gcm(plain, hashlib.scrypt(PHRASE, salt=salt, n=1024, r=8, p=1, dklen=32))
    return f"$scrypt$n=1024,r=8,p=1${salt.hex()}${iv.hex()}${b64(ct + tag)}"


def salted_json(plain: bytes) -> str:
    salt = os.urandom(32)
    key = HKDF(SHA512(), 16, b"pepper" + salt, b"patient.ssn").derive(PHRASE)
    iv, ct, tag = gcm(plain, key, b"patient")
    return b64(json.dumps({"v": 3, "s": b64(salt), "i": b64(iv), "c": b64(ct + tag)}).encode())


def with_key_id(plain: bytes) -> bytes:
    """A magic number, a key id of four bytes and a time of eight: as binary formats have them."""
    iv, ct, tag = gcm(zlib.compress(plain))
    return b"SEAL" + os.urandom(4) + iv + os.urandom(8) + ct + tag


def derived_for_each(plain: bytes) -> str:
    salt = os.urandom(8)
    made = hashlib.pbkdf2_hmac("sha1", PHRASE, salt, 50, 32 + 16)
    padder = padding.PKCS7(128).padder()
    stream = Cipher(algorithms.AES(made[:32]), modes.CBC(made[32:])).encryptor()
    ct = stream.update(padder.update(plain) + padder.finalize()) + stream.finalize()
    return f"{salt.hex()}|{ct.hex()}|{hmac.digest(PHRASE, salt + ct, 'sha512').hex()}"


class Stranger(NamedTuple):
    """`told` is what inspect says without a key. It must not be "plain"."""

    write: Callable[[bytes], str | bytes]
    form: dict[str, Any]
    key: tuple[str, bytes]
    told: str


HEX_KEY = ("hex", KEY.hex().encode())
STRANGERS = {
    "nested json": Stranger(
        nested,
        {
            "container": "json",
            "ct": "enc.body",
            "iv": "enc.meta.nonce",
            "tag": "sig",
            "cipher": "aes-256-gcm",
            "encoding": {"ct": "base64", "iv": "hex", "tag": "base64"},
            "expected": {"alg": "A256GCM"},
        },
        HEX_KEY,
        PARTLY,
    ),
    "v1: and AES-192": Stranger(
        versioned,
        {
            "container": "joined",
            "order": ["iv", "ct", "tag"],
            "prefix": "v1:",
            "encoding": "base64",
            "cipher": "aes-192-gcm",
            "key_bytes": 24,
        },
        ("hex", KEY[:24].hex().encode()),
        PARTLY,
    ),
    "ENC()": Stranger(
        in_words,
        {
            "container": "joined",
            "order": ["iv", "ct", "tag"],
            "prefix": "ENC(",
            "suffix": ")",
            "encoding": "base64",
            "cipher": "chacha20-poly1305",
            "aad": "ssn",
        },
        HEX_KEY,
        PARTLY,
    ),
    "key in a prefix": Stranger(
        key_in_prefix,
        {
            "container": "separated",
            "separator": ".",
            "order": ["-key", "iv", "ct"],
            "encoding": "base64",
            "cipher": "aes-256-gcm",
        },
        ("hex", KEY.hex().encode() + b"\n" + OLDER.hex().encode()),
        PARTLY,
    ),
    "iv of 16 bytes at the end": Stranger(
        tag_before_iv,
        {
            "container": "joined",
            "order": ["ct", "tag", "iv"],
            "iv_bytes": 16,
            "encoding": "hex",
            "cipher": "aes-256-gcm",
        },
        HEX_KEY,
        "opaque hex",
    ),
    "gzip": Stranger(
        zipped,
        {
            "container": "joined",
            "order": ["iv", "ct", "tag"],
            "cipher": "aes-256-gcm",
            "content": ["gzip", "json"],
        },
        HEX_KEY,
        "opaque bytes",
    ),
    "encrypt, then mac": Stranger(
        then_mac,
        {
            "container": "joined",
            "order": ["iv", "ct", "tag"],
            "tag_bytes": 32,
            "encoding": "base64",
            "cipher": "aes-256-cbc",
            "hmac": {"over": ["iv", "ct"], "key": "last"},
        },
        ("raw", KEY + MAC_KEY),
        "opaque base64",
    ),
    "as crypt() has it": Stranger(
        crypt_like,
        {
            "container": "separated",
            "separator": "$",
            "order": ["-", "-name", "-costs", "salt", "iv", "ct"],
            "encoding": {"salt": "hex", "iv": "hex", "ct": "base64"},
            "cipher": "aes-256-gcm",
            "kdf": {"name": "scrypt", "n": 1024, "r": 8, "p": 1},
        },
        ("text", PHRASE),
        PARTLY,
    ),
    "salted json in base64": Stranger(
        salted_json,
        {
            "wrapped": "base64",
            "container": "json",
            "ct": "c",
            "iv": "i",
            "salt": "s",
            "expected": {"v": 3},
            "cipher": "aes-128-gcm",
            "aad": "patient",
            "kdf": {"name": "hkdf", "hash": "sha512", "salt": "pepper", "info": "patient.ssn"},
        },
        ("text", PHRASE),
        PARTLY,
    ),
    "key id and time": Stranger(
        with_key_id,
        {
            "container": "joined",
            "magic": "SEAL",
            "order": ["-4", "iv", "-8", "ct", "tag"],
            "cipher": "aes-256-gcm",
            "content": "zlib",
        },
        HEX_KEY,
        "opaque bytes",
    ),
    "iv from the derivation": Stranger(
        derived_for_each,
        {
            "container": "separated",
            "separator": "|",
            "order": ["salt", "ct", "tag"],
            "encoding": "hex",
            "cipher": "aes-256-cbc",
            "iv_from": "derived",
            "kdf": {"name": "pbkdf2", "hash": "sha1", "rounds": 50},
            "hmac": {"hash": "sha512", "over": ["salt", "ct"], "kdf": {"name": "none"}},
        },
        ("text", PHRASE),
        PARTLY,
    ),
}


@pytest.mark.parametrize("name", STRANGERS)
@settings(max_examples=25)
@given(values=st.lists(st.text(max_size=60), min_size=1, max_size=3))
def test_a_stranger_is_read(name: str, values: list[str]) -> None:
    stranger = STRANGERS[name]
    reader = reader_of(stranger.form, parse(*stranger.key))
    for value in values:
        written = stranger.write(value.encode())
        assert reader.fits(written)
        assert reader.open(written) == value.encode()


@pytest.mark.parametrize("name", STRANGERS)
def test_an_altered_value_does_not_open(name: str) -> None:
    stranger = STRANGERS[name]
    reader = reader_of(stranger.form, parse(*stranger.key))
    assert reader.authenticates
    written = stranger.write(b"078-05-1120")
    content = bytearray(written.encode() if isinstance(written, str) else written)
    opened = set()
    for place in range(len(content)):
        altered = bytearray(content)
        altered[place] ^= 1
        try:
            opened.add(reader.open(bytes(altered)))
        except errors.InvalidEnvelope:
            continue
    assert opened <= {b"078-05-1120"}, "what is passed over may change, and a value may not"


@pytest.mark.parametrize("name", STRANGERS)
def test_inspect_does_not_call_a_stranger_plain(name: str) -> None:
    """A value in a thousand looks like words, as its random bytes fall. inspect() looks at many."""
    stranger = STRANGERS[name]
    told = [kind(stranger.write(value)) for value in (b"078-05-1120", b"x" * 40) for _ in range(15)]
    assert told.count(stranger.told) >= 28


USUAL = [
    "donaudampfschifffahrtsgesellschaft",
    "a_rather_long_name_of_a_column_in_a_table",
    "a-rather-long-slug-of-a-page-from-2026-11-27",
    '{"id": "8f14e45f-ceea-467f-a0e6-b1a5c3c1f1b9", "name": "Zoë"}',
    "https://example.org/articles/2026/11/how-to-encrypt-columns?page=2",
    "order 12345678901234567890123456",
    "/usr/lib/postgresql/15/lib/pg_envelope",
    "pneumonoultramicroscopicsilicovolcanoconiosis",
    "DE89 3704 0044 0532 0130 00",
]


@pytest.mark.parametrize("value", USUAL)
def test_long_usual_texts_are_plain(value: str) -> None:
    assert kind(value) == "plain"


@pytest.mark.parametrize("name", ["-", "-0", "-65", "-x", "-4.0", "-１"])
def test_only_a_number_of_bytes_is_passed_over(name: str) -> None:
    with pytest.raises(errors.BadInput):
        reader_of({"container": "joined", "order": ["iv", name, "ct", "tag"], "cipher": "aes-gcm"}, parse("raw", KEY))


@pytest.mark.parametrize("content", ["zip", ["gzip", "x"], [1], {"a": 1}, 7, "zlib,json"])
def test_only_known_contents(content: Any) -> None:
    with pytest.raises(errors.BadInput):
        reader_of(
            {"container": "joined", "order": ["iv", "ct", "tag"], "cipher": "aes-gcm", "content": content},
            parse("raw", KEY),
        )


def test_content_that_grows_without_end_does_not_open() -> None:
    spec = {"container": "joined", "order": ["iv", "ct", "tag"], "cipher": "aes-gcm", "content": ["gzip"]}
    reader = reader_of(spec, parse("raw", KEY))
    for content in (b"", b"\x1f\x8b", gzip.compress(b"x")[:-1], zlib.compress(b"x")):
        iv, ct, tag = gcm(content)
        assert not reader.opens(iv + ct + tag)
