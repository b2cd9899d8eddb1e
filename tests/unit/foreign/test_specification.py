"""Layouts that no preset has: values are sealed here by their specification, and the reader gives them back."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from pg_envelope import errors
from pg_envelope.foreign.bad import BadLayout
from pg_envelope.foreign.keys import FORMS, LegacyKey, parse
from pg_envelope.foreign.presets import NAMES, SPECIFICATIONS, reader_of

SECRET = b"base secret of an application"
ENCODED = {"hex": bytes.hex, "base64": lambda content: base64.b64encode(content).decode()}
KDFS: list[dict[str, Any]] = [
    {"name": "hkdf", "hash": "sha256", "salt": "salt", "info": "column ssn"},
    {"name": "pbkdf2", "hash": "sha512", "rounds": 3, "salt": "fixed"},
    {"name": "hash", "hash": "sha256"},
]


def derived(kdf: dict[str, Any], salt: bytes, length: int) -> bytes:
    salt = kdf.get("salt", "").encode() + salt
    if kdf["name"] == "hkdf":
        return HKDF(SHA256(), length, salt, kdf["info"].encode()).derive(SECRET)
    if kdf["name"] == "pbkdf2":
        return hashlib.pbkdf2_hmac("sha512", SECRET, salt, kdf["rounds"], length)
    return hashlib.sha256(SECRET).digest()[:length]


def sealed(cipher: str, key: bytes, iv: bytes, plain: bytes, aad: bytes | None) -> tuple[bytes, bytes]:
    if cipher.endswith("cbc"):
        padder = padding.PKCS7(128).padder()
        stream = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
        return stream.update(padder.update(plain) + padder.finalize()) + stream.finalize(), b""
    aead = ChaCha20Poly1305(key) if cipher.startswith("chacha") else AESGCM(key)
    content = aead.encrypt(iv, plain, aad)
    return content[:-16], content[-16:]


def written(spec: dict[str, Any], plain: bytes, iv: bytes, salt: bytes) -> str | bytes:
    """Seals as an application would that has this layout."""
    cipher = spec["cipher"]
    length = 16 if "128" in cipher else 32
    salted = "salt" in spec.get("order", ()) or "salt" in spec
    key = derived(spec["kdf"], salt if salted else b"", length)
    ct, tag = sealed(cipher, key, iv, plain, spec.get("aad", "").encode() or None)
    parts = {"ct": ct, "iv": iv, "tag": tag, "salt": salt, "-v": b"7"}
    encode = ENCODED.get(spec.get("encoding", "raw"), bytes)
    if spec["container"] == "json":
        return json.dumps({"v": 2, **{spec[name]: encode(parts[name]) for name in parts if name in spec}})
    if spec["container"] == "separated":
        return spec["prefix"] + spec["separator"].join(encode(parts[name]) for name in spec["order"])
    joined = encode(b"".join(parts[name] for name in spec["order"]))
    return joined if isinstance(joined, bytes) else spec["prefix"] + joined


@st.composite
def specifications(draw: st.DrawFn) -> dict[str, Any]:
    container = draw(st.sampled_from(["json", "separated", "joined"]))
    cipher = draw(st.sampled_from(["aes-256-gcm", "aes-128-gcm", "chacha20-poly1305", "aes-256-cbc"]))
    names = ["iv", "ct", *(["tag"] if "cbc" not in cipher else []), *(["salt"] if draw(st.booleans()) else [])]
    encodings = ["hex", "base64", *(["raw"] if container == "joined" else [])]
    spec = {
        "container": container,
        "cipher": cipher,
        "kdf": draw(st.sampled_from(KDFS)),
        "encoding": draw(st.sampled_from(encodings)),
    }
    if "128" in cipher:
        spec["key_bytes"] = 16
    if "cbc" not in cipher and draw(st.booleans()):
        spec["aad"] = "table:column"
    if container == "json":
        return {**spec, **{name: f"member {name}" for name in names}, "expected": {"v": 2}}
    passed = ["-v"] if container == "separated" and draw(st.booleans()) else []
    order = draw(st.permutations([*names, *passed]))
    prefix = draw(st.sampled_from(["", "enc!"])) if spec["encoding"] != "raw" else ""
    extra = {"separator": draw(st.sampled_from([":", "$", "--", "|"]))} if container == "separated" else {}
    return {**spec, "order": list(order), "prefix": prefix, **extra}


@settings(max_examples=400)
@given(
    specifications(),
    st.text(st.characters(codec="utf-8", categories=["L", "N", "Zs"])),
    st.binary(min_size=16, max_size=16),
)
def test_a_layout_that_no_preset_has(spec: dict[str, Any], plain: str, random: bytes) -> None:
    iv = random if "cbc" in spec["cipher"] else random[:12]
    value = written(spec, plain.encode(), iv, random)
    reader = reader_of(spec, LegacyKey("text", (b"another", SECRET)))
    assert reader.fits(value)
    assert reader.open(value).decode() == plain
    assert reader.authenticates is ("cbc" not in spec["cipher"])


BAD: list[dict[str, Any]] = [
    {},
    {"container": "xml"},
    {"container": "json", "cipher": "aes-gcm"},
    {"container": "json", "cipher": "rot13", "ct": "c"},
    {"container": "json", "cipher": "aes-gcm", "ct": 5},
    {"container": "json", "cipher": "aes-gcm", "ct": "c", "key": "secret in the specification"},
    {"container": "json", "cipher": "aes-gcm", "ct": "c", "encoding": "raw"},
    {"container": "joined", "cipher": "aes-gcm", "order": "iv ct"},
    {"container": "joined", "cipher": "aes-gcm", "order": ["iv", "tag"]},
    {"container": "joined", "cipher": "aes-gcm", "order": ["iv", "iv", "ct"]},
    {"container": "joined", "cipher": "aes-gcm", "order": ["-x", "ct"]},
    {"container": "joined", "cipher": "aes-gcm", "order": ["ct", "tag"], "iv_bytes": 100},
    {"container": "joined", "cipher": "aes-gcm", "order": ["ct", "tag"], "iv_bytes": True},
    {"container": "separated", "cipher": "aes-gcm", "order": ["ct", "tag"]},
    {"container": "joined", "cipher": "aes-cbc", "order": ["ct"], "kdf": {"name": "argon2"}},
    {"container": "joined", "cipher": "aes-cbc", "order": ["ct"], "kdf": {"name": "pbkdf2"}},
    {"container": "joined", "cipher": "aes-cbc", "order": ["ct"], "kdf": {"name": "pbkdf2", "rounds": 10**12}},
    {"container": "joined", "cipher": "aes-cbc", "order": ["ct"], "kdf": {"name": "hash", "hash": "crc"}},
    {"container": "joined", "cipher": "aes-cbc", "order": ["ct"], "kdf": []},
    {"container": "joined", "cipher": "chacha20-poly1305", "order": ["ct"], "key_bytes": 16},
    {"container": ["json"], "cipher": "aes-gcm", "ct": "c"},
]


@pytest.mark.parametrize("spec", BAD, ids=str)
def test_a_bad_specification_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(BadLayout) as refused:
        reader_of(spec, LegacyKey("hex", (bytes(32),)))
    assert refused.value.sqlstate == "22023"


def test_the_named_specifications_are_good_ones() -> None:
    assert len(NAMES) > 30
    for name in SPECIFICATIONS:
        reader_of(name, LegacyKey("hex", (bytes(32),), {"salt": b"s"}))


def test_a_key_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(BadLayout, match="length"):
        reader_of("node_json", LegacyKey("text", (b"password",)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "content", [b"", b"\n", b"{}", b"[]", b"\xff\xfe", b"-----BEGIN PGP MESSAGE-----", b'{"key": 5}', b"5"]
)
def test_a_key_file_is_read_or_refused(form: str, content: bytes) -> None:
    try:
        found = parse(form, content)
    except BadLayout:
        return
    assert any(found.secrets)


@given(st.sampled_from(sorted(FORMS)), st.binary(max_size=200))
def test_no_key_file_breaks_the_parser(form: str, content: bytes) -> None:
    with contextlib.suppress(errors.BadInput):
        assert any((*parse(form, content).secrets, b"named"))
