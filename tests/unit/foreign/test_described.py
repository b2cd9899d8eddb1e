"""Layouts of which there are no values of the library itself: the values are made here after its description."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest
from Crypto.Cipher import AES
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pg_envelope.foreign.keys import parse
from pg_envelope.foreign.presets import NAMES, reader_of
from tests.unit.foreign.fix_cases import CASES, read

PLAIN = ["Zoë 078-05-1120", "", "long text " * 200, '{"a": 1}']
KEY, WORD = bytes(range(32)), b"a passphrase of more than 16"
IV, IV16, SALT = bytes(12), bytes(range(16)), bytes(range(64))


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def gcm(plain: bytes, key: bytes = KEY, iv: bytes = IV) -> tuple[bytes, bytes]:
    sealed = AESGCM(key).encrypt(iv, plain, None)
    return sealed[:-16], sealed[-16:]


def cbc(plain: bytes, key: bytes = KEY, iv: bytes = IV16) -> bytes:
    padder = padding.PKCS7(128).padder()
    stream = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return stream.update(padder.update(plain) + padder.finalize()) + stream.finalize()


def laravel(plain: bytes) -> str:
    iv, value = b64(IV16), b64(cbc(plain))
    mac = hmac.new(KEY, (iv + value).encode(), "sha256").hexdigest()
    return b64(json.dumps({"iv": iv, "value": value, "mac": mac, "tag": ""}).encode())


def laravel_gcm(plain: bytes) -> str:
    sealed, tag = gcm(plain)
    return b64(json.dumps({"iv": b64(IV), "value": b64(sealed), "mac": "", "tag": b64(tag)}).encode())


def laravel_serialized(plain: bytes) -> str:
    return laravel(b's:%d:"%b";' % (len(plain), plain))


def tink(plain: bytes) -> bytes:
    return b"\x01" + (77).to_bytes(4, "big") + IV + b"".join(gcm(plain))


def cryptr(plain: bytes) -> str:
    key = hashlib.pbkdf2_hmac("sha512", WORD, SALT, 100_000, 32)
    sealed, tag = gcm(plain, key, IV16)
    return (SALT + IV16 + tag + sealed).hex()


def jasypt(plain: bytes) -> str:
    key = hashlib.pbkdf2_hmac("sha512", WORD, IV16, 1000, 32)
    return b64(IV16 + IV16 + cbc(plain, key))


def prisma(plain: bytes) -> str:
    sealed = base64.urlsafe_b64encode(b"".join(gcm(plain))).decode()
    return f"v1.aesgcm256.0123abcd.{base64.urlsafe_b64encode(IV).decode()}.{sealed}"


def colons(plain: bytes) -> str:
    sealed, tag = gcm(plain)
    return ":".join(map(b64, (IV, tag, sealed)))


def colons_hex(plain: bytes) -> str:
    return ":".join(part.hex() for part in (IV, *gcm(plain)))


def mysql(plain: bytes) -> bytes:
    """What MySQL's AES_ENCRYPT() returns: the key is folded to 16 bytes."""
    key = bytes(WORD[place] ^ (WORD[16 + place] if 16 + place < len(WORD) else 0) for place in range(16))
    padder = padding.PKCS7(128).padder()
    return AES.new(key, AES.MODE_ECB).encrypt(padder.update(plain) + padder.finalize())


def cloak(plain: bytes) -> bytes:
    sealed, tag = gcm_bound(plain, b"AES256GCM")
    return b"\x01\x0aAES.GCM.V1" + IV + tag + sealed


def gcm_bound(plain: bytes, aad: bytes) -> tuple[bytes, bytes]:
    sealed = AESGCM(KEY).encrypt(IV, plain, aad)
    return sealed[:-16], sealed[-16:]


def defuse(plain: bytes) -> str:
    salt, infos = SALT[:32], (b"DefusePHP|V2|KeyForEncryption", b"DefusePHP|V2|KeyForAuthentication")
    keys = [HKDF(SHA256(), 32, salt, info).derive(KEY) for info in infos]
    stream = AES.new(keys[0], AES.MODE_CTR, nonce=b"", initial_value=IV16).encrypt(plain)
    content = bytes.fromhex("def50200") + salt + IV16 + stream
    return (content + hmac.digest(keys[1], content, "sha256")).hex()


def sjcl(plain: bytes) -> str:
    """SJCL's nonce is the beginning of its IV: 13 bytes for contents under 64 KiB."""
    key = hashlib.pbkdf2_hmac("sha256", WORD, SALT[:8], 10_000, 16)
    sealed, tag = AES.new(key, AES.MODE_CCM, nonce=IV16[:13], mac_len=8).encrypt_and_digest(plain)
    told = {"iv": b64(IV16), "v": 1, "iter": 10_000, "ks": 128, "ts": 64, "mode": "ccm", "adata": "", "cipher": "aes"}
    return json.dumps({**told, "salt": b64(SALT[:8]), "ct": b64(sealed + tag)})


DEFUSE_HEADER = bytes.fromhex("def00000")
DEFUSE_KEY = (DEFUSE_HEADER + KEY + hashlib.sha256(DEFUSE_HEADER + KEY).digest()).hex().encode()
KEYSET = {"key": [{"keyId": 77, "keyData": {"value": b64(b"\x1a\x20" + KEY)}}]}
BASE64_KEY = ("base64", b"base64:" + b64(KEY).encode())
DESCRIBED = {
    "laravel": ("laravel", *BASE64_KEY, laravel),
    "laravel gcm": ("laravel", *BASE64_KEY, laravel_gcm),
    "laravel_serialized": ("laravel_serialized", *BASE64_KEY, laravel_serialized),
    "tink": ("tink", "tink", json.dumps(KEYSET).encode(), tink),
    "cryptr": ("cryptr", "text", WORD, cryptr),
    "jasypt_aes": ("jasypt_aes", "text", WORD, jasypt),
    "prisma_field_encryption": ("prisma_field_encryption", *BASE64_KEY, prisma),
    "iv_tag_ct_base64": ("iv_tag_ct_base64", *BASE64_KEY, colons),
    "iv_ct_tag_hex": ("iv_ct_tag_hex", *BASE64_KEY, colons_hex),
    "mysql_aes": ("mysql_aes", "text", WORD, mysql),
    "cloak": ("cloak", *BASE64_KEY, cloak),
    "defuse": ("defuse", "defuse", DEFUSE_KEY, defuse),
    "sjcl": ("sjcl", "text", WORD, sjcl),
    "joined_iv_ct_cbc": ("joined_iv_ct_cbc", *BASE64_KEY, lambda plain: b64(IV16 + cbc(plain))),
}


@pytest.mark.parametrize("name", DESCRIBED)
def test_values_made_after_a_description(name: str) -> None:
    form, kind, secret, write = DESCRIBED[name]
    reader = reader_of(form, parse(kind, secret))
    for plain in PLAIN:
        value = write(plain.encode())
        assert reader.fits(value)
        assert reader.open(value).decode() == plain


def test_secretbox_as_base64() -> None:
    found = read("nacl")
    reader = reader_of("secretbox_base64", parse("hex", found["key"].encode()))
    assert [reader.open(b64(bytes.fromhex(value))).decode() for value in found["secretbox_prefixed"]] == found["plain"]


def test_every_layout_with_a_name_was_read_once() -> None:
    made = {form for form, *_ in DESCRIBED.values()} | {str(case.layout) for case in CASES.values()}
    # Those of pgcrypto's option convert-crlf: tests/integration/adoption/test_pgcrypto.py.
    assert set(NAMES) - made == {"pgp_sym_crlf", "pgp_pub_crlf", "secretbox_base64"}
