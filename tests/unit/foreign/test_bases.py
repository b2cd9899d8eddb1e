"""A specification that begins with a named format, and texts in other charsets than UTF-8."""

from __future__ import annotations

import base64
import hashlib
import json
import os

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pg_envelope.errors import InvalidEnvelope
from pg_envelope.foreign.bad import BadLayout
from pg_envelope.foreign.contents import CHARSETS
from pg_envelope.foreign.keys import LegacyKey
from pg_envelope.foreign.presets import NAMES, Spec, reader_of, slow
from pg_envelope.foreign.writers import writer_of

KEY, WORD = LegacyKey("raw", (bytes(range(32)),)), LegacyKey("text", (b"a passphrase",))


def node(plain: bytes, **names: str) -> str:
    iv = os.urandom(12)
    sealed = AESGCM(KEY.secrets[0]).encrypt(iv, plain, None)
    parts = {"ciphertext": sealed[:-16], "iv": iv, "authTag": sealed[-16:]}
    return json.dumps({names.get(name, name): base64.b64encode(part).decode() for name, part in parts.items()})


def test_members_of_a_named_format_are_changed() -> None:
    reader = reader_of({"format": "node_json", "tag": "mac"}, KEY)
    assert reader.open(node("Zoë".encode(), authTag="mac")).decode() == "Zoë"
    with pytest.raises(InvalidEnvelope):
        reader.open(node("Zoë".encode()))


@pytest.mark.parametrize(
    "charset", [name for name in CHARSETS if not name.startswith(("utf", "euc", "shift", "g", "b"))]
)
def test_a_text_in_its_charset(charset: str) -> None:
    """What each charset has above ASCII comes back as the same characters."""
    codec = charset.replace("windows-874", "cp874")
    text = bytes(range(0xA1, 0x100)).decode(codec, "ignore")
    assert len(text) >= 50
    reader = reader_of({"format": "node_json", "charset": charset}, KEY)
    assert reader.open(node(text.encode(codec))).decode() == text


@pytest.mark.parametrize(
    ("charset", "text"), [("shift_jis", "日本語"), ("gbk", "汉字"), ("utf-16", "Zoë €"), ("big5", "漢字")]
)
def test_charsets_of_several_bytes(charset: str, text: str) -> None:
    reader = reader_of({"format": "node_json", "charset": charset}, KEY)
    assert reader.open(node(text.encode(charset))).decode() == text


def test_bytes_that_are_not_of_the_charset_do_not_open() -> None:
    reader = reader_of({"format": "node_json", "charset": "shift_jis"}, KEY)
    assert not reader.opens(node(b"\xff\xff"))


def test_openpgp_with_a_charset() -> None:
    sealed = writer_of("pgp_sym", WORD)("Zoë".encode("iso-8859-1"))
    assert reader_of({"format": "pgp_sym", "charset": "iso-8859-1"}, WORD).open(sealed).decode() == "Zoë"
    assert reader_of("pgp_sym", WORD).open(sealed) == "Zoë".encode("iso-8859-1")


def test_a_fernet_key_that_is_derived_from_a_passphrase() -> None:
    """As the documentation of cryptography shows it."""
    key = hashlib.pbkdf2_hmac("sha256", b"a passphrase", b"salt of the application", 100_000, 32)
    token = Fernet(base64.urlsafe_b64encode(key)).encrypt("Zoë".encode())
    kdf = {"name": "pbkdf2", "hash": "sha256", "rounds": 100_000, "salt": "salt of the application"}
    reader = reader_of({"format": "fernet", "kdf": kdf}, WORD)
    assert reader.open(token).decode() == "Zoë"
    assert not slow({"format": "fernet", "kdf": kdf})


def test_a_salted_format_stays_slow() -> None:
    assert slow({"format": "sjcl", "expected": {}})
    assert not slow({"format": "pgp_sym", "charset": "gbk"})


WRONG: list[Spec] = [
    {"format": "none"},
    {"format": None},
    {"format": 1},
    {"format": ["fernet"]},
    {"format": "fernet", "cipher": "aes-gcm"},
    {"format": "fernet", "kdf": "pbkdf2"},
    {"format": "jwe", "kdf": {"name": "hash"}},
    {"format": "node_json", "unknown": 1},
    {"format": "node_json", "charset": "rot13"},
    {"format": "node_json", "charset": "utf-7"},
    {"format": "pgp_sym", "charset": 1},
    {"format": "pgp_sym", "charset": ["gbk"]},
    {"format": "pgp_sym", "content": "none"},
    {"charset": "gbk"},
    {"format": "defuse", "magic": {"constant": "xyz"}},
    {"format": "defuse", "magic": {"column": "ssn_magic"}},
    {"format": "defuse", "magic": {}},
    {"format": "defuse", "hmac": {"over": ["ct"], "salted": True}},
    {"format": "defuse", "hmac": {"over": ["ct"], "salted": 1, "kdf": {"name": "hkdf"}}},
]


@pytest.mark.parametrize("told", WRONG, ids=str)
def test_what_a_base_does_not_take(told: Spec) -> None:
    with pytest.raises(BadLayout):
        reader_of(told, LegacyKey("fernet", (bytes(32),)))


@pytest.mark.parametrize("name", NAMES)
def test_every_format_can_be_a_base(name: str) -> None:
    """It reads as the format does, and refuses no member of its own."""
    try:
        reader_of(name, KEY)
    except BadLayout:
        with pytest.raises(BadLayout):
            reader_of({"format": name}, KEY)
    else:
        reader_of({"format": name, "charset": "iso-8859-1"}, KEY)
