"""Opens the values of a specification that was checked: parts, key, cipher, and content."""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from operator import call
from typing import Any, NamedTuple

from pg_envelope.foreign.apart import apart, own_part
from pg_envelope.foreign.bad import BadLayout, NotOpened
from pg_envelope.foreign.ciphers import Method, Open, unpadded
from pg_envelope.foreign.containers import COMPRESSED
from pg_envelope.foreign.contents import content_steps, inflated, naive, without_zeros
from pg_envelope.foreign.derivations import derivation, salt_of
from pg_envelope.foreign.json_forms import QUOTE, Forms, Parts, are_plain
from pg_envelope.foreign.keys import LegacyKey
from pg_envelope.foreign.macs import Mac
from pg_envelope.foreign.reader import ForeignReader, Opener, first_of
from pg_envelope.foreign.specification import PARTS, ForeignLayout, layout
from pg_envelope.hmacs import hmac_of

PADDED = {"asterisks": naive, "zeros": without_zeros}
# How many keys are kept that were derived with the salt of a value.
MOST_DERIVED = 16
# A step behind the cipher takes the content and the parts of its value.
Step = Callable[[bytes, Parts], bytes]


def reader(given: Mapping[str, Any], key: LegacyKey) -> ForeignReader:
    """Returns the reader of a specification. Raises BadLayout for a key that does not fit it."""
    found = layout(given)
    openers = [_opener(found, secret, key) for secret in key.secrets]
    if not openers:
        raise BadLayout("the legacy key has no secret that this layout could use")
    own = own_part if apart(given).columns else None
    return ForeignReader(first_of(openers), found.shape, found.authenticates, found.is_marked, own)


def _opener(found: ForeignLayout, secret: bytes, key: LegacyKey) -> Opener:
    salt = key.named.get("salt", salt_of(found.given.get("kdf", {})))
    # The same value is often opened twice: to see whether it opens, and then to seal it anew.
    keyed = lru_cache(MOST_DERIVED)(partial(_keyed, found, secret))
    fixed = None if found.is_salted else keyed(salt)

    def keys_of(parts: Parts) -> Keyed:
        return fixed or keyed(salt + parts["salt"])

    if found.mac:
        return _checking(found, found.mac, keys_of)
    forms = found.split
    if fixed and found.method.authenticates and isinstance(forms, Forms) and forms.names == PARTS[:3]:
        return _of_known_form(found, forms, fixed, _usual(replace(found, split=forms.parsed), keys_of, fixed))
    return _usual(found, keys_of, fixed)


def _of_known_form(found: ForeignLayout, forms: Forms, keys: Keyed, usual: Opener) -> Opener:
    """Returns the opener of JSON objects with ciphertext, IV and tag, and one key. Most columns of node and Rails are
    such.

    It takes half the time of `usual`, which takes what has no known form.
    """
    known, decrypt, constant, finish = forms.known, keys.open, _constant_aad(found), _finish(found)
    tag_first, tag_bytes = found.method.tag_first, found.method.tag_bytes

    def opened(value: bytes) -> bytes:
        pieces = value.split(QUOTE)
        # Taken apart at once: an attribute of each costs a tenth of the whole.
        for count, constants, fixed, picked, decoders, is_base64, iv_bytes, others, flags, _ in known:  # noqa: B007
            if len(pieces) == count and constants(pieces) == fixed:
                break
        else:
            return usual(value)
        ciphertext, iv, tag = picked(pieces)
        try:
            if is_base64:
                ciphertext = a2b_base64(ciphertext, strict_mode=True)
                iv, tag = a2b_base64(iv, strict_mode=True), a2b_base64(tag, strict_mode=True)
            else:
                ciphertext, iv, tag = map(call, decoders, (ciphertext, iv, tag))
        except ValueError:
            return usual(value)
        if len(iv) != iv_bytes or len(tag) != tag_bytes or (others and not are_plain(others(pieces))):
            return usual(value)
        content = decrypt(iv, tag + ciphertext if tag_first else ciphertext + tag, constant)
        return finish(content, flags) if finish else content

    return opened


def _usual(found: ForeignLayout, keys_of: Callable[[Parts], Keyed], fixed: Keyed | None) -> Opener:
    """Returns the opener for a cipher that authenticates by itself, or not at all."""
    split, tag_first = found.split, found.method.tag_first
    constant, finish = _constant_aad(found), _finish(found)
    least = found.method.tag_bytes if found.authenticates else 0

    def opened(value: bytes) -> bytes:
        parts = split(value)
        keys = fixed or keys_of(parts)
        ciphertext, tag = parts["ct"], parts.get("tag", b"")
        sealed = tag + ciphertext if tag_first else ciphertext + tag
        if len(sealed) < least:
            raise NotOpened
        content = keys.open(parts.get("iv", keys.iv), sealed, parts.get("aad", constant))
        return finish(content, parts) if finish else content

    return opened


def _checking(found: ForeignLayout, checked: Mac, keys_of: Callable[[Parts], Keyed]) -> Opener:
    """Returns the opener of a layout with an HMAC."""
    constant, finish, magic = _constant_aad(found), _finish(found), found.magic

    def opened(value: bytes) -> bytes:
        parts = found.split(value)
        keys = keys_of(parts)
        aad, iv = parts.get("aad", constant), parts.get("iv", keys.iv)
        checked.check(keys.mac, {"iv": iv, "magic": magic, **parts, "aad": aad or b""})
        content = keys.open(iv, parts["ct"], aad)
        return finish(content, parts) if finish else content

    return opened


def _constant_aad(found: ForeignLayout) -> bytes | None:
    told = found.given.get("aad")
    return told.encode() if isinstance(told, str) else None


class Keyed(NamedTuple):
    """A cipher under its key, the IV of a value that holds none, and the key of an HMAC."""

    open: Open
    iv: bytes
    mac: Callable[[bytes], bytes]


def _keyed(found: ForeignLayout, secret: bytes, salt: bytes) -> Keyed:
    """Returns the keys that are derived with this salt."""
    method, source = found.method, found.given.get("iv_from", "value")
    kdf = found.given.get("kdf", {})
    more = found.mac.beside() if found.mac else 0
    length = _key_bytes(found, secret, kdf)
    wanted = length + more + (method.iv_bytes if source == "derived" else 0)
    material = derivation(kdf, wanted)(secret, salt)
    made = material[: length + more] if source == "derived" else material
    key, mac_key = found.mac.keys(secret, salt, made, length) if found.mac else (made, b"")
    ivs = {"derived": material[length + more :], "key": key[: method.iv_bytes]}
    mac_of = hmac_of(mac_key, digest=found.mac.digest) if found.mac else bytes
    return Keyed(_cipher_of(method, key), ivs.get(source, bytes(method.iv_bytes)), mac_of)


def _key_bytes(found: ForeignLayout, secret: bytes, kdf: Mapping[str, Any]) -> int:
    if kdf.get("name", "none") == "none":
        return found.key_bytes or len(secret) - (found.mac.beside() if found.mac else 0)
    return found.key_bytes or 32


def _cipher_of(method: Method, key: bytes) -> Open:
    if len(key) not in method.key_bytes:
        lengths = ", ".join(map(str, method.key_bytes[:4]))
        raise BadLayout(
            "the legacy key does not have the length that this cipher needs",
            detail=f"It has {len(key)} bytes. The cipher needs {lengths}.",
            hint="Was it imported in the right format? A passphrase needs a kdf.",
        )
    return method.opener(key)


def _finish(found: ForeignLayout) -> Callable[[bytes, Parts], bytes] | None:
    """Returns what is done with the content, if anything is: padding, compression, serialisation."""
    contents = map(_content, content_steps(found.given))
    steps = [step for step in (_padding(found), _inflating(found), *contents) if step]
    if not steps:
        return None

    def finished(content: bytes, parts: Parts) -> bytes:
        for step in steps:
            content = step(content, parts)
        return content

    return finished


def _padding(found: ForeignLayout) -> Step | None:
    block_bytes = found.method.block_bytes
    padding = found.given.get("padding", "pkcs7") if block_bytes > 1 else "none"
    if padding == "pkcs7":
        return lambda content, _parts: unpadded(content, block_bytes)
    if padding in PADDED:
        return lambda content, _parts: PADDED[padding](content)
    return None


def _inflating(found: ForeignLayout) -> Step | None:
    if not found.given.get("compressed"):
        return None
    return lambda content, parts: inflated(content) if COMPRESSED in parts else content


def _content(read: Callable[[bytes], bytes]) -> Step:
    return lambda content, _parts: read(content)
