"""Ciphers that old applications use, written by another library than the one that reads them here."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from Crypto.Cipher import AES
from Crypto.Util.Padding import pad
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope.errors import InvalidEnvelope
from pg_envelope.foreign.bad import BadLayout
from pg_envelope.foreign.derivations import folded
from pg_envelope.foreign.keys import LegacyKey, parse
from pg_envelope.foreign.presets import reader_of

KEY = bytes(range(32))
TEXTS = st.text(st.characters(exclude_categories=("C",)), max_size=300)


def ecb(plain: bytes) -> bytes:
    return AES.new(KEY, AES.MODE_ECB).encrypt(pad(plain, 16))


def cfb(bits: int) -> Callable[[bytes], bytes]:
    def write(plain: bytes) -> bytes:
        iv = os.urandom(16)
        return iv + AES.new(KEY, AES.MODE_CFB, iv=iv, segment_size=bits).encrypt(plain)

    return write


def ofb(plain: bytes) -> bytes:
    iv = os.urandom(16)
    return iv + AES.new(KEY, AES.MODE_OFB, iv=iv).encrypt(plain)


def ccm(nonce_bytes: int, tag_bytes: int) -> Callable[[bytes], bytes]:
    def write(plain: bytes) -> bytes:
        nonce = os.urandom(nonce_bytes)
        sealed, tag = AES.new(KEY, AES.MODE_CCM, nonce=nonce, mac_len=tag_bytes).encrypt_and_digest(plain)
        return nonce + sealed + tag

    return write


MODES = {
    "ecb": (ecb, {"order": ["ct"], "cipher": "aes-256-ecb"}),
    "cfb": (cfb(128), {"order": ["iv", "ct"], "cipher": "aes-cfb"}),
    "cfb8": (cfb(8), {"order": ["iv", "ct"], "cipher": "aes-256-cfb8"}),
    "ofb": (ofb, {"order": ["iv", "ct"], "cipher": "aes-ofb"}),
    "ccm": (ccm(13, 16), {"order": ["iv", "ct", "tag"], "cipher": "aes-ccm"}),
    "ccm, 7 bytes": (ccm(7, 16), {"order": ["iv", "ct", "tag"], "iv_bytes": 7, "cipher": "aes-256-ccm"}),
    "ccm, short tag": (ccm(12, 8), {"order": ["iv", "ct"], "iv_bytes": 12, "cipher": "aes-ccm-8"}),
}


@pytest.mark.parametrize("name", MODES)
@given(text=TEXTS)
def test_a_value_is_read(name: str, text: str) -> None:
    write, told = MODES[name]
    reader = reader_of({"container": "joined", **told}, LegacyKey("raw", (KEY,)))
    value = write(text.encode())
    assert reader.fits(value)
    assert reader.open(value).decode() == text
    assert reader.authenticates is name.startswith("ccm")


@pytest.mark.parametrize("name", [name for name in MODES if name.startswith("ccm")])
@given(text=TEXTS, at=st.integers(0), flip=st.integers(1, 255))
def test_ccm_notices_every_altered_byte(name: str, text: str, at: int, flip: int) -> None:
    write, told = MODES[name]
    reader = reader_of({"container": "joined", **told}, LegacyKey("raw", (KEY,)))
    value = bytearray(write(text.encode()))
    value[at % len(value)] ^= flip
    with pytest.raises(InvalidEnvelope):
        reader.open(bytes(value))


@pytest.mark.parametrize("length", [0, 65_535, 65_536, 70_000])
def test_ccm_takes_the_nonce_that_the_length_leaves_room_for(length: int) -> None:
    """As SJCL does: 13 bytes of the stored 16, and 12 from 64 KiB on."""
    plain, iv = b"x" * length, os.urandom(16)
    nonce = iv[: 13 if length < 65_536 else 12]
    sealed, tag = AES.new(KEY, AES.MODE_CCM, nonce=nonce, mac_len=8).encrypt_and_digest(plain)
    reader = reader_of(
        {"container": "joined", "order": ["iv", "ct"], "iv_bytes": 16, "cipher": "aes-ccm-8"}, LegacyKey("raw", (KEY,))
    )
    assert reader.open(iv + sealed + tag) == plain


@pytest.mark.parametrize("junk", [b"", b"x", b"x" * 15, b"x" * 17])
@pytest.mark.parametrize("name", MODES)
def test_what_is_too_short_does_not_open(name: str, junk: bytes) -> None:
    reader = reader_of({"container": "joined", **MODES[name][1]}, LegacyKey("raw", (KEY,)))
    assert not reader.opens(junk) or not reader.authenticates


def test_mysql_folds_its_key() -> None:
    assert folded(b"", 16) == bytes(16)
    assert folded(b"0123456789abcdef", 16) == b"0123456789abcdef"
    assert folded(b"0123456789abcdef" * 2, 16) == bytes(16)


@pytest.mark.parametrize("content", [b"", b"def00000", b"00" * 68, b"def00000" + b"00" * 64])
def test_a_damaged_key_of_defuse_is_refused(content: bytes) -> None:
    with pytest.raises(BadLayout):
        parse("defuse", content)
