"""JSON Web Encryption: compact, and the flattened JSON form. Source: RFC 7516 and RFC 7518."""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
import zlib
from typing import Any, NamedTuple

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

from pg_envelope.foreign.bad import NotOpened
from pg_envelope.foreign.ciphers import cbc
from pg_envelope.foreign.contents import inflated
from pg_envelope.foreign.encodings import from_base64
from pg_envelope.foreign.keys import LegacyKey
from pg_envelope.foreign.reader import ForeignReader, Opener, first_of

GCM = {"A128GCM", "A192GCM", "A256GCM"}
# The hash and the bytes of each half of the key: section 5.2 of RFC 7518.
CBC = {"A128CBC-HS256": ("sha256", 16), "A192CBC-HS384": ("sha384", 24), "A256CBC-HS512": ("sha512", 32)}
WRAPS = {"A128KW", "A192KW", "A256KW"}
OAEP = {"RSA-OAEP": hashes.SHA1, "RSA-OAEP-256": hashes.SHA256}


class JweParts(NamedTuple):
    """The parts of a JWE, decoded; `protected` is the header as it was written, which is authenticated."""

    protected: bytes
    header: dict[str, Any]
    wrapped: bytes
    iv: bytes
    ciphertext: bytes
    tag: bytes


def jwe(key: LegacyKey) -> ForeignReader:
    """A secret is a symmetric key, or an RSA key as PKCS #8."""
    return ForeignReader(
        first_of([_opener(secret) for secret in key.secrets]), shape, authenticates=True, is_marked=True
    )


def _opener(secret: bytes) -> Opener:
    private = _rsa(secret)

    def opened(value: bytes) -> bytes:
        sealed = _parts(value)
        content = _open(sealed, _content_key(sealed, secret, private))
        return inflated(content, -zlib.MAX_WBITS) if sealed.header.get("zip") == "DEF" else content

    return opened


def _rsa(secret: bytes) -> rsa.RSAPrivateKey | None:
    try:
        found = serialization.load_der_private_key(secret, None)
    except (ValueError, TypeError):
        return None
    return found if isinstance(found, rsa.RSAPrivateKey) else None


def shape(value: bytes) -> bytes:
    return _parts(value).ciphertext


def _parts(value: bytes) -> JweParts:
    written = value.strip()
    if written.startswith(b"{"):
        told = json.loads(written)
        named = ("protected", "encrypted_key", "iv", "ciphertext", "tag")
        parts = [told.get(name, "").encode() for name in named]
    else:
        parts = written.split(b".")
    if len(parts) != 5:
        raise NotOpened
    protected, *others = parts
    header = json.loads(from_base64(protected))
    # An unknown critical header must be refused. Content encryption by another header than the protected one is rare.
    if not isinstance(header, dict) or "crit" in header or header.get("enc") not in (*GCM, *CBC):
        raise NotOpened
    return JweParts(protected, header, *map(from_base64, others))


def _content_key(sealed: JweParts, secret: bytes, private: rsa.RSAPrivateKey | None) -> bytes:
    how = sealed.header.get("alg")
    if how == "dir" and not sealed.wrapped:
        return secret
    if how in WRAPS:
        return _unwrapped(secret, sealed.wrapped)
    if how in OAEP and private is not None:
        digest = OAEP[how]()
        return private.decrypt(sealed.wrapped, padding.OAEP(padding.MGF1(digest), digest, None))
    raise NotOpened


def _unwrapped(secret: bytes, wrapped: bytes) -> bytes:
    try:
        return aes_key_unwrap(secret, wrapped)
    except InvalidUnwrap:
        raise NotOpened from None


def _open(sealed: JweParts, key: bytes) -> bytes:
    enc = sealed.header["enc"]
    if enc in GCM:
        if len(key) * 8 != int(enc[1:4]):
            raise NotOpened
        return AESGCM(key).decrypt(sealed.iv, sealed.ciphertext + sealed.tag, sealed.protected)
    digest, half = CBC[enc]
    if len(key) != 2 * half:
        raise NotOpened
    check_mac(digest, key[:half], sealed.protected, sealed.iv + sealed.ciphertext, sealed.tag, half)
    return cbc(key[half:], sealed.iv, sealed.ciphertext)


def check_mac(digest: str, key: bytes, aad: bytes, content: bytes, tag: bytes, length: int) -> None:
    """Checks the tag of AES-CBC with HMAC: section 5.2.2 of RFC 7518, and MongoDB's CSFLE. Raises NotOpened."""
    bits = struct.pack(">Q", len(aad) * 8)
    made = hmac.new(key, aad + content + bits, getattr(hashlib, digest)).digest()[:length]
    if not hmac.compare_digest(made, tag):
        raise NotOpened
