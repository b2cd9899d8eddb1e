"""Layouts of real applications that no preset has: each is written here by hand, and read by its specification."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from Crypto.Cipher import AES
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st

from pg_envelope import errors
from pg_envelope.foreign.bad import BadLayout
from pg_envelope.foreign.chacha import hchacha20
from pg_envelope.foreign.keys import LegacyKey
from pg_envelope.foreign.presets import reader_of, slow
from pg_envelope.foreign.specification import KNOWN

KEY, MAC_KEY, PHRASE = bytes(range(32)), bytes(range(100, 132)), b"a passphrase of an application"
B64 = {"encoding": "base64"}
HEX = {"encoding": "hex"}
GCM = {"cipher": "aes-256-gcm"}
SIV = {"cipher": "aes-siv"}
Write = Callable[[bytes], str | bytes]


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def gcm(plain: bytes, key: bytes = KEY, aad: bytes | None = None, size: int = 12) -> tuple[bytes, bytes, bytes]:
    iv = os.urandom(size)
    found = AESGCM(key).encrypt(iv, plain, aad)
    return iv, found[:-16], found[-16:]


def cbc(plain: bytes, key: bytes = KEY, iv: bytes = b"", pad: str = "pkcs7") -> tuple[bytes, bytes]:
    iv = iv or os.urandom(16)
    padder = padding.PKCS7(128).padder()
    padded = padder.update(plain) + padder.finalize() if pad == "pkcs7" else plain + b"\0" * (-len(plain) % 16)
    stream = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return iv, stream.update(padded) + stream.finalize()


def ctr(plain: bytes) -> tuple[bytes, bytes]:
    iv = os.urandom(16)
    stream = Cipher(algorithms.AES(KEY), modes.CTR(iv)).encryptor()
    return iv, stream.update(plain) + stream.finalize()


def tag(key: bytes, *parts: bytes, digest: str = "sha256") -> bytes:
    return hmac.digest(key, b"".join(parts), digest)


def nested_json(plain: bytes) -> str:
    iv, ct, end = gcm(plain)
    return json.dumps({"enc": {"data": b64(ct), "meta": {"nonce": b64(iv), "mac": b64(end)}}, "v": 3})


def node_buffers(plain: bytes) -> str:
    iv, ct, end = gcm(plain)
    return json.dumps({"iv": {"type": "Buffer", "data": [*iv]}, "ct": [*ct], "tag": {"type": "Buffer", "data": [*end]}})


def json_in_base64(plain: bytes) -> str:
    iv, ct, end = gcm(plain)
    return b64(json.dumps({"i": b64(iv), "c": b64(ct + end)}).encode())


def mixed(plain: bytes) -> str:
    iv, ct, end = gcm(plain)
    return f"{iv.hex()}${b64(ct)}${end.hex()}"


def sealed_by_scrypt(plain: bytes) -> str:
    salt = os.urandom(16)
    iv, ct, end = gcm(plain, hashlib.scrypt(PHRASE, salt=salt, n=16, r=1, p=1, dklen=32))
    return b64(salt + iv + end + ct)


def by_pbkdf2(plain: bytes) -> str:
    salt = os.urandom(8)
    iv, ct, end = gcm(plain, hashlib.pbkdf2_hmac("sha512", PHRASE, salt, 7, 32))
    return f"{salt.hex()}:{iv.hex()}:{ct.hex()}:{end.hex()}"


def chacha(plain: bytes) -> bytes:
    nonce = os.urandom(12)
    return nonce + ChaCha20Poly1305(KEY).encrypt(nonce, plain, b"column")


def xchacha(plain: bytes) -> str:
    nonce = os.urandom(24)
    found = ChaCha20Poly1305(hchacha20(KEY, nonce[:16])).encrypt(bytes(4) + nonce[16:], plain, None)
    return b64(nonce + found)


def cbc_hmac(plain: bytes) -> str:
    iv, ct = cbc(plain)
    return b64(iv + ct + tag(MAC_KEY, iv, ct))


def cbc_hmac_first(plain: bytes) -> str:
    iv, ct = cbc(plain)
    return b64(tag(MAC_KEY, iv, ct, digest="sha512")[:32] + iv + ct)


def ctr_hmac(plain: bytes) -> str:
    iv, ct = ctr(plain)
    return f"{iv.hex()}.{ct.hex()}.{tag(KEY, iv, ct, digest='sha1').hex()}"


def cbc_hmac_derived(plain: bytes) -> str:
    made = hashlib.pbkdf2_hmac("sha256", PHRASE, b"cipher", 3, 32)
    iv, ct = cbc(plain, made)
    return json.dumps({"iv": b64(iv), "ct": b64(ct), "mac": b64(tag(hashlib.sha256(PHRASE).digest(), iv, ct))})


def siv(plain: bytes, nonce: bytes | None = None, aad: bytes | None = None) -> tuple[bytes, bytes]:
    """Returns ciphertext and tag as another library writes them."""
    cipher = AES.new(KEY + MAC_KEY, AES.MODE_SIV, nonce=nonce)
    if aad is not None:
        cipher.update(aad)
    return cipher.encrypt_and_digest(plain)


def siv_joined(plain: bytes, aad: bytes | None = None) -> bytes:
    ct, end = siv(plain, aad=aad)
    return end + ct


def siv_apart(plain: bytes) -> str:
    ct, end = siv(plain, aad=b"patient.ssn")
    return f"{ct.hex()}:{end.hex()}"


def siv_nonce(plain: bytes) -> str:
    nonce = os.urandom(15)
    ct, end = siv(plain, nonce)
    return json.dumps({"n": b64(nonce), "c": b64(end + ct)})


def php(plain: bytes) -> str:
    key, iv = hashlib.sha256(PHRASE).hexdigest()[:32].encode(), hashlib.sha256(b"iv").hexdigest()[:16].encode()
    return b64(b64(cbc(plain, key, iv)[1]).encode())


def encoded(layout: str) -> Write:
    def write(plain: bytes) -> str:
        iv, ct, end = gcm(plain)
        whole = iv + ct + end
        return {
            "0x": f"0x{whole.hex()}",
            "url-safe": "v1:" + base64.urlsafe_b64encode(whole).decode().rstrip("="),
            "double": b64(b64(whole).encode()),
            "percent": quote(b64(whole), safe=""),
            "json string": json.dumps(b64(whole)),
            "ct first": b64(ct + end + iv),
            "tag first": b64(end + iv + ct),
            "key id": f"key-2024|{b64(iv)}|{b64(ct + end)}",
        }[layout]

    return write


def joined(*order: str) -> dict[str, Any]:
    return {"container": "joined", "order": [*order]}


IV_CT_TAG = joined("iv", "ct", "tag")
CBC_HMAC = {**joined("iv", "ct", "tag"), "cipher": "aes-256-cbc", **B64}
LAYOUTS: dict[str, tuple[Write, dict[str, Any], bytes]] = {
    "nested json": (
        nested_json,
        {"container": "json", "ct": "enc.data", "iv": "enc.meta.nonce", "tag": "enc.meta.mac", **GCM},
        KEY,
    ),
    "node buffers": (node_buffers, {"container": "json", "ct": "ct", "iv": "iv", "tag": "tag", **GCM}, KEY),
    "json in base64": (
        json_in_base64,
        {"container": "json", "wrapped": ["base64"], "ct": "c", "iv": "i", **GCM},
        KEY,
    ),
    "mixed encodings": (
        mixed,
        {
            "container": "separated",
            "separator": "$",
            "order": ["iv", "ct", "tag"],
            "encoding": {"iv": "hex", "tag": "hex", "ct": "base64"},
            **GCM,
        },
        KEY,
    ),
    "0x": (encoded("0x"), {**IV_CT_TAG, **HEX, **GCM}, KEY),
    "v1 and base64url": (encoded("url-safe"), {**IV_CT_TAG, **B64, **GCM, "prefix": "v1:"}, KEY),
    "double base64": (encoded("double"), {**IV_CT_TAG, **B64, **GCM, "wrapped": ["base64"]}, KEY),
    "percent": (encoded("percent"), {**IV_CT_TAG, **B64, **GCM, "wrapped": ["url"]}, KEY),
    "json string": (encoded("json string"), {**IV_CT_TAG, **B64, **GCM, "wrapped": ["json"]}, KEY),
    "iv last": (encoded("ct first"), {**joined("ct", "tag", "iv"), **B64, **GCM}, KEY),
    "tag first": (encoded("tag first"), {**joined("tag", "iv", "ct"), **B64, **GCM}, KEY),
    "key id": (
        encoded("key id"),
        {"container": "separated", "separator": "|", "order": ["-key", "iv", "ct"], **B64, **GCM},
        KEY,
    ),
    "scrypt": (
        sealed_by_scrypt,
        {**joined("salt", "iv", "tag", "ct"), **B64, **GCM, "kdf": {"name": "scrypt", "n": 16, "r": 1, "p": 1}},
        PHRASE,
    ),
    "pbkdf2": (
        by_pbkdf2,
        {
            "container": "separated",
            "separator": ":",
            "order": ["salt", "iv", "ct", "tag"],
            **HEX,
            **GCM,
            "kdf": {"name": "pbkdf2", "hash": "sha512", "rounds": 7},
        },
        PHRASE,
    ),
    "chacha20": (chacha, {**IV_CT_TAG, "cipher": "chacha20-poly1305", "aad": "column"}, KEY),
    "xchacha20": (xchacha, {**IV_CT_TAG, **B64, "cipher": "xchacha20-poly1305"}, KEY),
    "cbc and hmac": (cbc_hmac, {**CBC_HMAC, "hmac": {}}, KEY + MAC_KEY),
    "hmac first": (
        cbc_hmac_first,
        {**CBC_HMAC, **joined("tag", "iv", "ct"), "tag_bytes": 32, "hmac": {"hash": "sha512", "key": "first"}},
        MAC_KEY + KEY,
    ),
    "ctr and hmac": (
        ctr_hmac,
        {
            "container": "separated",
            "separator": ".",
            "order": ["iv", "ct", "tag"],
            **HEX,
            "cipher": "aes-256-ctr",
            "hmac": {"hash": "sha1", "key": "same"},
        },
        KEY,
    ),
    "hmac with a kdf": (
        cbc_hmac_derived,
        {
            "container": "json",
            "ct": "ct",
            "iv": "iv",
            "tag": "mac",
            "cipher": "aes-256-cbc",
            "kdf": {"name": "pbkdf2", "rounds": 3, "salt": "cipher"},
            "hmac": {"kdf": {"name": "hash"}},
        },
        PHRASE,
    ),
    "php": (
        php,
        {
            **joined("ct"),
            **B64,
            "wrapped": ["base64"],
            "cipher": "aes-256-cbc",
            "iv": {"constant": hashlib.sha256(b"iv").hexdigest()[:16].encode().hex()},
            "kdf": {"name": "hash", "encoding": "hex"},
        },
        PHRASE,
    ),
    "siv": (lambda plain: b64(siv_joined(plain)), {**joined("ct"), **B64, **SIV}, KEY + MAC_KEY),
    "siv in bytes": (siv_joined, {**joined("tag", "ct"), **SIV}, KEY + MAC_KEY),
    "siv with an empty text": (lambda plain: siv_joined(plain, b""), {**joined("ct"), **SIV, "aad": ""}, KEY + MAC_KEY),
    "siv, its tag last": (
        siv_apart,
        {
            "container": "separated",
            "separator": ":",
            "order": ["ct", "tag"],
            **HEX,
            **SIV,
            "aad": "patient.ssn",
        },
        KEY + MAC_KEY,
    ),
    "siv with a nonce": (siv_nonce, {"container": "json", "ct": "c", "iv": "n", **SIV}, KEY + MAC_KEY),
    "zeros": (
        lambda plain: b64(b"".join(cbc(plain, pad="zeros"))),
        {**joined("iv", "ct"), **B64, "cipher": "aes-256-cbc", "padding": "zeros"},
        KEY,
    ),
}
TEXTS = st.text(st.characters(codec="utf-8", categories=["L", "N", "Zs"]), min_size=1, max_size=60)


@pytest.mark.parametrize("name", LAYOUTS)
@given(text=TEXTS)
def test_a_value_is_read(name: str, text: str) -> None:
    write, spec, secret = LAYOUTS[name]
    reader = reader_of(spec, LegacyKey("text", (secret,)))
    value = write(text.encode())
    assert reader.fits(value)
    assert reader.open(value).decode() == text


@pytest.mark.parametrize("name", [name for name, (_, spec, _) in LAYOUTS.items() if spec.get("hmac") is not None])
@given(text=TEXTS, data=st.data())
def test_an_hmac_notices_every_altered_part(name: str, text: str, data: st.DataObject) -> None:
    write, spec, secret = LAYOUTS[name]
    reader = reader_of(spec, LegacyKey("text", (secret,)))
    assert reader.authenticates
    value = str(write(text.encode()))
    at = data.draw(st.integers(0, len(value) - 1))
    altered = value[:at] + ("A" if value[at] != "A" else "B") + value[at + 1 :]
    if reader.opens(altered):
        assert reader.open(altered).decode() == text, "another spelling of the same bytes"
        assert name == "ctr and hmac" or _bytes_of(altered) == _bytes_of(value)


def _bytes_of(value: str) -> list[bytes]:
    texts = json.loads(value).values() if value.startswith("{") else [value]
    return [base64.b64decode(text) for text in texts]


def test_the_vector_of_the_draft() -> None:
    """draft-irtf-cfrg-xchacha, section 2.2.1 and appendix A.3.1."""
    key, nonce = bytes(range(32)), bytes.fromhex("000000090000004a0000000031415927")
    assert hchacha20(key, nonce).hex() == "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"


RFC_KEY = "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
RFC_AAD = {"constant": "101112131415161718191a1b1c1d1e1f2021222324252627"}
RFC_SEALED = "85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c"


def test_the_vector_of_rfc_5297() -> None:
    """Appendix A.1."""
    reader = reader_of({**joined("ct"), **HEX, **SIV, "aad": RFC_AAD}, LegacyKey("raw", (bytes.fromhex(RFC_KEY),)))
    assert reader.open(RFC_SEALED).hex() == "112233445566778899aabbccddee"


@given(text=st.text(st.characters(codec="utf-8"), max_size=60), length=st.sampled_from([32, 48, 64]), data=st.data())
def test_siv_notices_every_altered_byte(text: str, length: int, data: st.DataObject) -> None:
    key = (KEY + MAC_KEY)[:length]
    reader = reader_of({**joined("ct"), **SIV}, LegacyKey("raw", (key,)))
    ct, end = AES.new(key, AES.MODE_SIV).encrypt_and_digest(text.encode())
    value = bytearray(end + ct)
    assert reader.authenticates
    assert reader.open(bytes(value)).decode() == text
    value[data.draw(st.integers(0, len(value) - 1))] ^= data.draw(st.integers(1, 255))
    for bad in (bytes(value), end + ct[:-1] if ct else end[:-1], ct + end + b"x", b""):
        assert not reader.opens(bad)


def test_siv_binds_what_it_is_told_and_nothing_else() -> None:
    told = [{}, {"aad": ""}, {"aad": "a"}, {"iv": {"constant": "61"}}, {"aad": "", "iv": {"constant": "61"}}]
    written = [siv_joined(b"x"), siv_joined(b"x", b""), siv_joined(b"x", b"a")]
    readers = [reader_of({**joined("ct"), **SIV, **more}, LegacyKey("raw", (KEY + MAC_KEY,))) for more in told]
    opens = [[reader.opens(value) for value in written] for reader in readers]
    # One string is bound in the third and the fourth: the RFC makes no difference between a nonce and another string.
    assert opens == [
        [True, False, False],
        [False, True, False],
        [False, False, True],
        [False, False, True],
        [False] * 3,
    ]


BAD: list[dict[str, Any]] = [
    {**IV_CT_TAG, **GCM, "hmac": {}},
    {**joined("iv", "ct"), "cipher": "aes-256-cbc", "hmac": {}},
    {**CBC_HMAC, "hmac": {"hash": "crc"}},
    {**CBC_HMAC, "hmac": {"over": ["iv"]}},
    {**CBC_HMAC, "hmac": {"over": "ct"}},
    {**CBC_HMAC, "hmac": {"over": ["ct", 5]}},
    {**CBC_HMAC, "hmac": {"over": ["ct", ["iv"]]}},
    {**CBC_HMAC, "hmac": {"hash": ["sha256"]}},
    {**CBC_HMAC, "hmac": {"kdf": {"name": ["hash"]}}},
    {**IV_CT_TAG, **GCM, "kdf": {"name": {}}},
    {**IV_CT_TAG, **GCM, "kdf": {"name": "hash", "hash": ["sha256"]}},
    {**CBC_HMAC, "hmac": {"key": "middle"}},
    {**CBC_HMAC, "hmac": {"key": ["last"]}},
    {**CBC_HMAC, "hmac": {"key_bytes": 0}},
    {**CBC_HMAC, "hmac": {"kdf": []}},
    {**CBC_HMAC, "hmac": "sha256"},
    {**IV_CT_TAG, **GCM, "wrapped": ["rot13"]},
    {**IV_CT_TAG, **GCM, "wrapped": 5},
    {**IV_CT_TAG, **GCM, "encoding": {"iv": "hex"}},
    {"container": "json", "ct": "c", **GCM, "encoding": {"iv": "rot13"}},
    {"container": "json", "ct": "c", **GCM, "encoding": {"x": "hex"}},
    {**joined("ct", "tag"), **GCM, "iv": {}},
    {**joined("ct", "tag"), **GCM, "iv": {"column": 5}},
    {**joined("ct", "tag"), **GCM, "iv": {"column": ""}},
    {**joined("ct", "tag"), **GCM, "iv": {"column": "x", "constant": "00"}},
    {**joined("ct", "tag"), **GCM, "iv": {"column": "x", "encoding": "rot13"}},
    {**joined("ct", "tag"), **GCM, "iv": {"constant": "no hex"}},
    {**joined("iv", "ct"), "cipher": "aes-siv"},
    {**IV_CT_TAG, **GCM, "kdf": {"name": "scrypt", "n": 1000}},
    {**IV_CT_TAG, **GCM, "kdf": {"name": "scrypt", "n": 1 << 20, "r": 32}},
    {**IV_CT_TAG, **GCM, "kdf": {"name": "scrypt", "p": True}},
    {**IV_CT_TAG, **GCM, "kdf": {"name": "hash", "encoding": "base64"}},
]


@pytest.mark.parametrize("spec", BAD, ids=str)
def test_a_bad_specification_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(BadLayout) as refused:
        reader_of(spec, LegacyKey("text", (KEY,)))
    assert refused.value.sqlstate == "22023"


def test_a_salted_specification_is_slow_only_with_a_slow_derivation() -> None:
    assert [name for name, (_, spec, _) in LAYOUTS.items() if slow(spec)] == ["scrypt", "pbkdf2"]
    assert not slow({**joined("salt", "iv", "ct"), **GCM})


BESIDE = {**joined("ct", "tag"), **GCM, "iv": {"column": "*_iv"}, "aad": {"column": "id"}}


@given(text=TEXTS, row=st.integers(0, 10**6))
def test_parts_in_other_columns(text: str, row: int) -> None:
    iv, ct, end = gcm(text.encode(), aad=str(row).encode())
    value = ".".join(part.hex() for part in (ct + end, iv, str(row).encode()))
    reader = reader_of(BESIDE, LegacyKey("text", (KEY,)))
    assert reader.open(value).decode() == text
    assert reader.own(value) == ct + end
    for bad in (value + ".00", value.rsplit(".", 1)[0], value.replace(".", ":"), "", (ct + end).hex() + "..", "é.é.é"):
        with pytest.raises(errors.InvalidEnvelope):
            reader.open(bad)


def test_a_short_nonce_opens_nothing() -> None:
    reader = reader_of({**IV_CT_TAG, "cipher": "xchacha20-poly1305", "iv_bytes": 12}, LegacyKey("text", (KEY,)))
    assert not reader.opens(bytes(60))


@pytest.mark.parametrize(
    ("over", "hmac_kdf", "authenticates"),
    [
        (["salt", "iv", "ct"], {"name": "hash"}, True),
        (["iv", "ct"], {"name": "hash"}, False),
        (["iv", "ct"], None, True),
        (["ct"], None, False),
    ],
)
def test_an_hmac_counts_only_over_all_that_changes_the_text(
    over: list[str], hmac_kdf: dict[str, str] | None, authenticates: bool
) -> None:
    spec = {**CBC_HMAC, **joined("salt", "iv", "ct", "tag"), "kdf": {"name": "pbkdf2", "rounds": 1}}
    reader = reader_of({**spec, "hmac": {"over": over, "kdf": hmac_kdf}}, LegacyKey("text", (PHRASE,)))
    assert reader.authenticates is authenticates


JUNK_NAMES = ("name", "hash", "rounds", "salt", "over", "key", "kdf", "column", "constant", "encoding", "iv", "ct", "n")
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70) | st.floats() | st.text(max_size=4) | st.sampled_from(["ct", "iv"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(JUNK_NAMES), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=600)
@given(st.sampled_from(sorted(LAYOUTS)), st.sampled_from(sorted(KNOWN)), JUNK, st.text(max_size=40))
def test_no_specification_breaks_the_parser(name: str, member: str, junk: object, value: str) -> None:
    """A wrong member is refused with the one error, and nothing else is raised, whatever stands in it."""
    with contextlib.suppress(BadLayout):
        reader = reader_of({**LAYOUTS[name][1], member: junk}, LegacyKey("text", (KEY,)))
        reader.fits(value)
        reader.opens(value)
