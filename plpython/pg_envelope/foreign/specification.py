"""Makes a reader of a specification: container, encoding, cipher and derivation, in one JSON object.

    {"container": "json", "ct": "ciphertext", "iv": "iv", "tag": "authTag", "encoding": "base64", "cipher": "aes-gcm"}

docs/adopt.md describes the members.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from operator import call
from typing import Any, NamedTuple

from pg_envelope.foreign.apart import apart, own_part
from pg_envelope.foreign.bad import BadLayout, NotOpened
from pg_envelope.foreign.ciphers import METHODS, SIZED, TAG_BYTES, Method, Open, unpadded
from pg_envelope.foreign.containers import (
    COMPRESSED,
    PASSED_OVER,
    Decoders,
    Split,
    beginning,
    between,
    joined,
    json_object,
    separated,
    wrapped,
)
from pg_envelope.foreign.contents import CONTENTS, inflated, naive, without_zeros
from pg_envelope.foreign.derivations import derivation, salt_of
from pg_envelope.foreign.encodings import DECODERS, WRAPPINGS
from pg_envelope.foreign.json_forms import QUOTE, Fit, Forms, Parts, are_plain
from pg_envelope.foreign.keys import LegacyKey
from pg_envelope.foreign.macs import LEAST_BYTES, Mac, keyed_hmac, mac
from pg_envelope.foreign.reader import ForeignReader, Opener, first_of

CONTAINERS = ("json", "separated", "joined")
PARTS = ("ct", "iv", "tag", "salt")
IVS = ("value", "zero", "key", "derived")
PADDINGS = ("pkcs7", "asterisks", "zeros", "none")
KNOWN = {
    *("container", "order", "separator", "encoding", "cipher", "kdf", "aad", "prefix", "suffix", "expected", "wrapped"),
    *(
        "magic",
        "iv_bytes",
        "salt_bytes",
        "tag_bytes",
        "key_bytes",
        "iv_from",
        "padding",
        "content",
        "compressed",
        "hmac",
    ),
    *PARTS,
}
PADDED = {"asterisks": naive, "zeros": without_zeros}
# How many keys are kept that were derived with the salt of a value.
MOST_DERIVED = 16
HINT = "docs/adopt.md describes the members of a specification."
# A step behind the cipher takes the content and the parts of its value.
Step = Callable[[bytes, Parts], bytes]


@dataclass(frozen=True)
class ForeignLayout:
    """A specification that was checked. `split` finds the parts; `method` opens them with a key of `key_bytes`."""

    split: Split
    method: Method
    key_bytes: int | None
    mac: Mac | None
    given: Mapping[str, Any]

    @property
    def authenticates(self) -> bool:
        """An HMAC must be over the IV, too, or an altered IV reads as another text."""
        return self.method.authenticates or (self.mac is not None and self._varying <= set(self.mac.over))

    @property
    def _varying(self) -> set[str]:
        """The parts that change what opens, but for the ciphertext. A salt also changes the HMAC's key, if it has no
        other.
        """
        found = {name for name in ("iv", "salt") if self._varies(name)}
        return found if self.mac and self.mac.derive else found - {"salt"}

    def _varies(self, name: str) -> bool:
        told = self.given.get(name)
        return name in _listed(self.given) or isinstance(told, str) or (isinstance(told, dict) and "column" in told)

    @property
    def is_marked(self) -> bool:
        """A JSON object, several parts or a constant beginning; and not one text of bytes."""
        return self.given["container"] != "joined" or bool(self.given.get("prefix") or self.given.get("magic"))

    def shape(self, value: bytes) -> bytes:
        return self.split(value)["ct"]

    @property
    def is_salted(self) -> bool:
        return "salt" in _listed(self.given) or bool(self.given.get("salt"))


def layout(given: Mapping[str, Any]) -> ForeignLayout:
    """Checks a specification. Raises BadLayout."""
    unknown = sorted(set(given) - KNOWN)
    if unknown:
        raise BadLayout("the specification has unknown members", detail=", ".join(unknown), hint=HINT)
    _one_of(given, "container", CONTAINERS)
    _one_of(given, "iv_from", IVS, "value")
    _one_of(given, "padding", PADDINGS, "pkcs7")
    name, key_bytes = _cipher(given)
    if key_bytes is not None and key_bytes not in METHODS[name].key_bytes:
        raise BadLayout(f"the cipher {name} has no keys of {key_bytes} bytes", hint=HINT)
    checked = _mac(given, METHODS[name])
    if not isinstance(given.get("kdf", {}), dict):
        raise BadLayout("kdf must be an object", hint=HINT)
    derivation(given.get("kdf", {}), 1)
    salt_of(given.get("kdf", {}))
    return ForeignLayout(_split(given, METHODS[name], checked), METHODS[name], key_bytes, checked, given)


def _mac(given: Mapping[str, Any], method: Method) -> Mac | None:
    found = mac(given)
    if found and method.authenticates:
        raise BadLayout("the cipher authenticates by itself, so there is no hmac", hint=HINT)
    if found and "tag" not in (*_listed(given), *(name for name in PARTS if given.get(name))):
        raise BadLayout("an hmac needs a tag: say where it is", hint=HINT)
    return found


def _cipher(given: Mapping[str, Any]) -> tuple[str, int | None]:
    wanted = _one_of(given, "cipher", (*METHODS, *SIZED))
    name, sized = SIZED.get(wanted, (wanted, None))
    return name, sized or _size(given, "key_bytes", None)


def _one_of(given: Mapping[str, Any], name: str, known: tuple[str, ...], default: str | None = None) -> str:
    found = given.get(name, default)
    if found not in known:
        raise BadLayout(f"{name} must be one of: {', '.join(known)}", hint=HINT)
    return str(found)


def _size(given: Mapping[str, Any], name: str, default: int | None) -> int | None:
    found = given.get(name, default)
    if found is not None and (type(found) is not int or not 0 < found <= 64):
        raise BadLayout(f"{name} must be a number from 1 to 64", hint=HINT)
    return found


def _told(given: Mapping[str, Any], name: str) -> str:
    found = given.get(name, "")
    if not isinstance(found, str):
        raise BadLayout(f"{name} must be a text", hint=HINT)
    return found


def _split(given: Mapping[str, Any], method: Method, checked: Mac | None) -> Split:
    beside = apart(given)
    fit = partial(_fitting, method, checked)
    if given["container"] == "json" and not beside.columns and not beside.constants:
        return _whole(given, method, checked, fit)
    split = beside.of(_whole(given, method, checked, dict))
    if given["container"] == "joined" and not beside.columns:
        return split
    return lambda value: fit(split(value))


def _whole(given: Mapping[str, Any], method: Method, checked: Mac | None, fit: Fit) -> Split:
    """Returns what takes a value apart whose parts are all in it."""
    prefix, suffix = _told(given, "prefix").encode(), _told(given, "suffix").encode()
    if not isinstance(given.get("aad"), dict):
        _told(given, "aad")
    inside = between(prefix, suffix, _contained(given, method, checked, fit))
    return wrapped([WRAPPINGS[name] for name in _wrappings(given)], inside)


def _wrappings(given: Mapping[str, Any]) -> list[str]:
    found = given.get("wrapped", [])
    names = [found] if isinstance(found, str) else found
    if not isinstance(names, list) or not all(isinstance(name, str) and name in WRAPPINGS for name in names):
        raise BadLayout(f"wrapped must list some of: {', '.join(WRAPPINGS)}", hint=HINT)
    return names


def _contained(given: Mapping[str, Any], method: Method, checked: Mac | None, fit: Fit) -> Split:
    if given["container"] == "json":
        return _json(given, fit)
    order = _order(given)
    if given["container"] == "separated":
        return separated(_separator(given), order, _decoders(given, "raw"))
    decode = DECODERS[_one_of(given, "encoding", tuple(DECODERS), "raw")]
    sizes = {
        "iv": _size(given, "iv_bytes", method.iv_bytes or None),
        "salt": _size(given, "salt_bytes", 16),
        "tag": _size(given, "tag_bytes", checked.tag_bytes if checked else TAG_BYTES),
    }
    passed = {name: _passed_bytes(name) for name in order if name.startswith(PASSED_OVER)}
    known = {name: size for name, size in (sizes | passed).items() if size}
    if missing := set(order) - {"ct"} - set(known):
        raise BadLayout(f"{', '.join(sorted(missing))} has no usual size in this cipher: give iv_bytes", hint=HINT)
    split = beginning(_told(given, "magic").encode(), joined(order, known))
    return lambda value: split(decode(value))


def _decoders(given: Mapping[str, Any], usual: str) -> Decoders:
    """`encoding` is that of all parts, or an object with one for each part."""
    found = given.get("encoding", usual)
    named = found if isinstance(found, dict) else dict.fromkeys((*PARTS, "aad"), found)
    if not all(isinstance(name, str) and name in DECODERS for name in named.values()) or set(named) - {*PARTS, "aad"}:
        raise BadLayout(f"encoding must be one of: {', '.join(DECODERS)}, or an object with one for a part", hint=HINT)
    return lambda name: DECODERS[named.get(name, usual)]


def _json(given: Mapping[str, Any], fit: Fit) -> Split:
    members = {name: _told(given, name) for name in PARTS if given.get(name) and not isinstance(given[name], dict)}
    if "ct" not in members:
        raise BadLayout("a JSON object needs ct, the path of its ciphertext", hint=HINT)
    expected = given.get("expected", {})
    if not isinstance(expected, dict):
        raise BadLayout("expected must be an object", hint=HINT)
    if given.get("encoding") == "raw":
        raise BadLayout("a text in a JSON object is base64 or hex", hint=HINT)
    return json_object(members, _decoders(given, "base64"), expected, _told(given, "compressed"), fit)


def _listed(given: Mapping[str, Any]) -> list[str]:
    """Returns the names of parts in `order`, whatever else stands there."""
    order = given.get("order")
    return [name for name in order if isinstance(name, str)] if isinstance(order, list) else []


def _order(given: Mapping[str, Any]) -> list[str]:
    order, names = given.get("order"), _listed(given)
    known = [name for name in names if not name.startswith(PASSED_OVER)]
    joins = given["container"] == "joined"
    if order != names or "ct" not in known or set(known) - set(PARTS) or len(set(known)) < len(known):
        raise BadLayout("order must list ct, and perhaps iv, tag and salt, each once", hint=HINT)
    if joins and not all(map(_passed_bytes, set(names) - set(known))):
        raise BadLayout("what is passed over in joined bytes has a number of bytes from 1 to 64, such as -4", hint=HINT)
    return names


def _passed_bytes(name: str) -> int:
    """Returns how many joined bytes a name such as -4 passes over, or 0 for another name."""
    number = name.removeprefix(PASSED_OVER)
    return int(number) if re.fullmatch("[1-9]|[1-5][0-9]|6[0-4]", number, re.ASCII) else 0


def _separator(given: Mapping[str, Any]) -> str:
    found = _told(given, "separator")
    if not found:
        raise BadLayout("separated parts need a separator", hint=HINT)
    return found


def _fitting(method: Method, checked: Mac | None, parts: Parts) -> Parts:
    """Refuses parts that cannot be this cipher's. So a text that looks alike is not taken for ciphertext."""
    tags = range(LEAST_BYTES, checked.tag_bytes + 1) if checked else (TAG_BYTES,)
    if ("tag" in parts and len(parts["tag"]) not in tags) or ("iv" in parts and not method.takes(len(parts["iv"]))):
        raise NotOpened
    if len(parts["ct"]) % method.block_bytes:
        raise NotOpened
    return parts


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
    tag_first = found.method.tag_first

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
        if len(iv) != iv_bytes or len(tag) != TAG_BYTES or (others and not are_plain(others(pieces))):
            return usual(value)
        content = decrypt(iv, tag + ciphertext if tag_first else ciphertext + tag, constant)
        return finish(content, flags) if finish else content

    return opened


def _usual(found: ForeignLayout, keys_of: Callable[[Parts], Keyed], fixed: Keyed | None) -> Opener:
    """Returns the opener for a cipher that authenticates by itself, or not at all."""
    split, tag_first = found.split, found.method.tag_first
    constant, finish = _constant_aad(found), _finish(found)
    least = TAG_BYTES if found.authenticates else 0

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
    constant, finish = _constant_aad(found), _finish(found)

    def opened(value: bytes) -> bytes:
        parts = found.split(value)
        keys = keys_of(parts)
        aad, iv = parts.get("aad", constant), parts.get("iv", keys.iv)
        checked.check(keys.mac, {"iv": iv, **parts, "aad": aad or b""})
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
    key, mac_key = found.mac.keys(secret, made, length) if found.mac else (made, b"")
    ivs = {"derived": material[length + more :], "key": key[: method.iv_bytes]}
    mac_of = keyed_hmac(mac_key, found.mac.digest) if found.mac else bytes
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
    steps = [step for step in (_padding(found), _inflating(found), *_contents(found.given)) if step]
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


def _contents(given: Mapping[str, Any]) -> Iterator[Step]:
    """`content` names one form, or several of them in the order in which they are taken off."""
    told = given.get("content") or []
    names = told if isinstance(told, list) else [told]
    if not all(isinstance(name, str) and name in CONTENTS for name in names):
        raise BadLayout(f"content must be one of, or a list of: {', '.join(CONTENTS)}", hint=HINT)
    return (_content(CONTENTS[name]) for name in names)


def _content(read: Callable[[bytes], bytes]) -> Step:
    return lambda content, _parts: read(content)
