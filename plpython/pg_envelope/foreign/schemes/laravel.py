"""Laravel's encrypter: base64 of a JSON object with iv, value, and a tag (AES-GCM) or a MAC (AES-CBC)."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pg_envelope.foreign.bad import BadLayout, NotOpened
from pg_envelope.foreign.ciphers import cbc_of
from pg_envelope.foreign.contents import of_php
from pg_envelope.foreign.encodings import from_base64
from pg_envelope.foreign.keys import LegacyKey
from pg_envelope.foreign.reader import ForeignReader, Opener, first_of

KEY_BYTES = (16, 32)


class Payload(NamedTuple):
    """The members of the object; `iv` and `value` are as they are written, because the MAC is of their texts."""

    iv: str
    value: str
    mac: str
    tag: str


def laravel(key: LegacyKey) -> ForeignReader:
    """What encryptString() and the cast `encrypted` write."""
    return ForeignReader(
        first_of([_opener(secret) for secret in key.secrets]), shape, authenticates=True, is_marked=True
    )


def laravel_serialized(key: LegacyKey) -> ForeignReader:
    """What encrypt() writes: a serialized string."""
    openers = [_serialized(_opener(secret)) for secret in key.secrets]
    return ForeignReader(first_of(openers), shape, authenticates=True, is_marked=True)


def _serialized(opener: Opener) -> Opener:
    return lambda value: of_php(opener(value))


def _opener(secret: bytes) -> Opener:
    if len(secret) not in KEY_BYTES:
        raise BadLayout("a key of Laravel has 16 or 32 bytes", hint="Import it with --format base64.")
    aead, decrypt = AESGCM(secret), cbc_of(secret)

    def opened(value: bytes) -> bytes:
        told = _payload(value)
        iv, ciphertext = from_base64(told.iv.encode()), from_base64(told.value.encode())
        if told.tag:
            tag = from_base64(told.tag.encode())
            if len(tag) != 16:
                raise NotOpened
            return aead.decrypt(iv, ciphertext + tag, None)
        made = hmac.new(secret, (told.iv + told.value).encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(made, told.mac):
            raise NotOpened
        return decrypt(iv, ciphertext)

    return opened


def shape(value: bytes) -> bytes:
    return _payload(value).value.encode()


def _payload(value: bytes) -> Payload:
    told = json.loads(from_base64(value))
    found = Payload(told["iv"], told["value"], told.get("mac", ""), told.get("tag", ""))
    if not all(isinstance(member, str) for member in found):
        raise NotOpened
    return found
