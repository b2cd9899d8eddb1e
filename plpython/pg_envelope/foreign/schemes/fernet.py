"""Fernet and what is built on it: MultiFernet, SQLAlchemy-Utils, django-fernet-fields, django-cryptography.

Source: the Fernet specification (github.com/fernet/spec). A token is version 80 | time (8) | IV (16) | ciphertext |
HMAC (32).
Django-cryptography stores the same bytes without base64, and signs with a key of its own.
"""

from __future__ import annotations

import base64
import hashlib
from hmac import compare_digest

from pg_envelope.foreign.bad import NotOpened
from pg_envelope.foreign.ciphers import cbc_of
from pg_envelope.foreign.derivations import hkdf
from pg_envelope.foreign.encodings import from_base64
from pg_envelope.foreign.keys import LegacyKey
from pg_envelope.foreign.pickles import of_pickle
from pg_envelope.foreign.reader import ForeignReader, Opener, first_of
from pg_envelope.hmacs import hmac_of

VERSION = 0x80
IV_AT, CIPHERTEXT_AT, MAC_BYTES = 9, 25, 32
LEAST_BYTES = CIPHERTEXT_AT + 16 + MAC_BYTES
FIELDS_SALT, FIELDS_INFO = b"django-fernet-fields-hkdf-salt", b"django-fernet-fields"
DJANGO_SALT, DJANGO_ROUNDS = b"django-cryptography", 30000


def fernet(key: LegacyKey) -> ForeignReader:
    """Each secret is 32 bytes: 16 that sign and 16 that encrypt."""
    return _reader(list(key.secrets))


def of_passphrase(key: LegacyKey) -> ForeignReader:
    """SQLAlchemy-Utils hashes a passphrase to a Fernet key."""
    return _reader([hashlib.sha256(secret).digest() for secret in key.secrets])


def django_fernet_fields(key: LegacyKey) -> ForeignReader:
    return _reader([hkdf("sha256", secret, FIELDS_SALT, FIELDS_INFO, 32) for secret in key.secrets])


def django_cryptography(key: LegacyKey) -> ForeignReader:
    """Each secret is a SECRET_KEY. pickles.py tells what is read of pickled values."""
    openers = [opener for secret in key.secrets for opener in _of_django(secret)]
    return ForeignReader(first_of(openers), binary_shape, authenticates=True, is_marked=True)


def _of_django(secret: bytes) -> list[Opener]:
    """The library signs with the SECRET_KEY, or with the key that it derives, depending on its version."""
    derived = hashlib.pbkdf2_hmac("sha256", secret, DJANGO_SALT, DJANGO_ROUNDS, 32)

    def of_signer(signer: bytes) -> Opener:
        open_token = _of_keys(signer, derived)
        return lambda value: of_pickle(open_token(value))

    return [of_signer(secret), of_signer(derived)]


def _reader(keys: list[bytes]) -> ForeignReader:
    return ForeignReader(first_of([_opener(key) for key in keys]), shape, authenticates=True, is_marked=True)


def _opener(key: bytes) -> Opener:
    if len(key) != 32:
        raise NotOpened
    open_token = _of_keys(key[:16], key[16:])
    return lambda value: open_token(from_base64(value))


def _of_keys(signer: bytes, key: bytes) -> Opener:
    """Returns the function that opens the bytes of a token."""
    mac_of, decrypt = hmac_of(signer), cbc_of(key)

    def opened(token: bytes) -> bytes:
        _check(token)
        if not compare_digest(mac_of(token[:-MAC_BYTES]), token[-MAC_BYTES:]):
            raise NotOpened
        return decrypt(token[IV_AT:CIPHERTEXT_AT], token[CIPHERTEXT_AT:-MAC_BYTES])

    return opened


def shape(value: bytes) -> bytes:
    token = from_base64(value)
    _check(token)
    return token


def binary_shape(value: bytes) -> bytes:
    _check(value)
    return value


def _check(token: bytes) -> None:
    if len(token) < LEAST_BYTES or token[0] != VERSION or (len(token) - LEAST_BYTES) % 16:
        raise NotOpened


def key_text(secret: bytes) -> bytes:
    """Returns a key as `cryptography` takes it."""
    return base64.urlsafe_b64encode(secret)
