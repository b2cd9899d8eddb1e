"""Makes a reader of a specification: container, encoding, cipher and derivation, in one JSON object.

    {"container": "json", "ct": "ciphertext", "iv": "iv", "tag": "authTag", "encoding": "base64", "cipher": "aes-gcm"}

docs/adopt.md describes the members.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pg_envelope.foreign.bad import BadLayout, NotOpened
from pg_envelope.foreign.ciphers import METHODS, SIZED, TAG_BYTES, Method, Open, unpadded
from pg_envelope.foreign.containers import (
    PASSED_OVER,
    Parts,
    Split,
    beginning,
    between,
    joined,
    json_object,
    member,
    separated,
)
from pg_envelope.foreign.contents import CONTENTS, inflated, naive
from pg_envelope.foreign.derivations import derivation, salt_of
from pg_envelope.foreign.encodings import DECODERS
from pg_envelope.foreign.keys import LegacyKey
from pg_envelope.foreign.reader import ForeignReader, Opener, first_of

CONTAINERS = ("json", "separated", "joined")
PARTS = ("ct", "iv", "tag", "salt")
IVS = ("value", "zero", "key", "derived")
PADDINGS = ("pkcs7", "asterisks", "none")
KNOWN = {
    *("container", "order", "separator", "encoding", "cipher", "kdf", "aad", "prefix", "suffix", "expected"),
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
        *PARTS,
    ),
}
HINT = "docs/adopt.md describes the members of a specification."


@dataclass(frozen=True)
class ForeignLayout:
    """A specification that was checked. `split` finds the parts; `method` opens them with a key of `key_bytes`."""

    split: Split
    method: Method
    key_bytes: int | None
    given: Mapping[str, Any]

    @property
    def authenticates(self) -> bool:
        return self.method.authenticates

    @property
    def is_marked(self) -> bool:
        """A JSON object, several parts or a constant beginning; and not one text of bytes."""
        return self.given["container"] != "joined" or bool(self.given.get("prefix") or self.given.get("magic"))

    def shape(self, value: bytes) -> bytes:
        return self.split(value)["ct"]

    @property
    def is_salted(self) -> bool:
        return "salt" in self.given.get("order", ()) or bool(self.given.get("salt"))


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
    if not isinstance(given.get("kdf", {}), dict):
        raise BadLayout("kdf must be an object", hint=HINT)
    derivation(given.get("kdf", {}), 1)
    salt_of(given.get("kdf", {}))
    return ForeignLayout(_split(given, METHODS[name]), METHODS[name], key_bytes, given)


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


def _split(given: Mapping[str, Any], method: Method) -> Split:
    prefix, suffix = _told(given, "prefix").encode(), _told(given, "suffix").encode()
    _told(given, "aad")
    if given["container"] == "json":
        return between(prefix, suffix, _json(given, method))
    decode = DECODERS[_one_of(given, "encoding", tuple(DECODERS), "raw")]
    order = _order(given)
    if given["container"] == "separated":
        return between(prefix, suffix, _sized(separated(_separator(given), order, decode), method))
    sizes = {
        "iv": _size(given, "iv_bytes", method.iv_bytes),
        "salt": _size(given, "salt_bytes", 16),
        "tag": _size(given, "tag_bytes", TAG_BYTES),
    }
    known = {name: size for name, size in sizes.items() if size}
    split = beginning(_told(given, "magic").encode(), joined(order, known))
    return between(prefix, suffix, lambda value: split(decode(value)))


def _json(given: Mapping[str, Any], method: Method) -> Split:
    members = {name: _told(given, name) for name in PARTS if given.get(name)}
    if "ct" not in members:
        raise BadLayout("a JSON object needs ct, the path of its ciphertext", hint=HINT)
    expected = given.get("expected", {})
    if not isinstance(expected, dict):
        raise BadLayout("expected must be an object", hint=HINT)
    decode = DECODERS[_one_of(given, "encoding", ("base64", "hex"), "base64")]
    return _sized(json_object(members, decode, expected), method)


def _order(given: Mapping[str, Any]) -> list[str]:
    order = given.get("order")
    names = [name for name in order if isinstance(name, str)] if isinstance(order, list) else []
    known = [name for name in names if not name.startswith(PASSED_OVER)]
    joins = given["container"] == "joined"
    if order != names or "ct" not in known or set(known) - set(PARTS) or len(set(known)) < len(known):
        raise BadLayout("order must list ct, and perhaps iv, tag and salt, each once", hint=HINT)
    if joins and known != names:
        raise BadLayout("only separated parts can be passed over", hint=HINT)
    return names


def _separator(given: Mapping[str, Any]) -> str:
    found = _told(given, "separator")
    if not found:
        raise BadLayout("separated parts need a separator", hint=HINT)
    return found


def _sized(split: Split, method: Method) -> Split:
    """Refuses parts that cannot be this cipher's. So a text that looks alike is not taken for ciphertext."""

    def checked(value: bytes) -> Parts:
        parts = split(value)
        if len(parts.get("tag", bytes(TAG_BYTES))) != TAG_BYTES or (
            "iv" in parts and len(parts["iv"]) not in _ivs(method)
        ):
            raise NotOpened
        if len(parts["ct"]) % method.block_bytes:
            raise NotOpened
        return parts

    return checked


def _ivs(method: Method) -> tuple[int, ...]:
    # Node's crypto takes an IV of any length for GCM. People use 12 and 16.
    return (method.iv_bytes, 16) if method.iv_bytes == 12 else (method.iv_bytes,)


def reader(given: Mapping[str, Any], key: LegacyKey) -> ForeignReader:
    """Returns the reader of a specification. Raises BadLayout for a key that does not fit it."""
    found = layout(given)
    openers = [_opener(found, secret, key) for secret in key.secrets]
    if not openers:
        raise BadLayout("the legacy key has no secret that this layout could use")
    return ForeignReader(first_of(openers), found.shape, found.authenticates, found.is_marked)


def _opener(found: ForeignLayout, secret: bytes, key: LegacyKey) -> Opener:
    salt = key.named.get("salt", salt_of(found.given.get("kdf", {})))
    keyed = partial(_keyed, found, secret)
    fixed = None if found.is_salted else keyed(salt)
    aad = _told(found.given, "aad").encode() or None
    finish = _finish(found)

    def opened(value: bytes) -> bytes:
        parts = found.split(value)
        open_, iv = fixed if fixed is not None else keyed(salt + parts["salt"])
        sealed = parts["ct"] + parts.get("tag", b"")
        if found.authenticates and len(sealed) < TAG_BYTES:
            raise NotOpened
        return finish(open_(parts.get("iv", iv), sealed, aad), value)

    return opened


def _keyed(found: ForeignLayout, secret: bytes, salt: bytes) -> tuple[Open, bytes]:
    """Returns the cipher under the key that is derived with this salt, and the IV of a value that holds none."""
    method, source = found.method, found.given.get("iv_from", "value")
    kdf = found.given.get("kdf", {})
    length = _key_bytes(found, secret, kdf)
    if source == "derived":
        made = derivation(kdf, length + method.iv_bytes)(secret, salt)
        return _cipher_of(method, made[:length]), made[length:]
    key = derivation(kdf, length)(secret, salt)
    return _cipher_of(method, key), key[: method.iv_bytes] if source == "key" else bytes(method.iv_bytes)


def _key_bytes(found: ForeignLayout, secret: bytes, kdf: Mapping[str, Any]) -> int:
    if kdf.get("name", "none") == "none":
        return len(secret)
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


def _finish(found: ForeignLayout) -> Callable[[bytes, bytes], bytes]:
    """Returns what is done with the content: padding, compression, serialisation."""
    given, block_bytes = found.given, found.method.block_bytes
    padding = given.get("padding", "pkcs7") if block_bytes > 1 else "none"
    compressed = _told(given, "compressed")
    read = CONTENTS[_one_of(given, "content", tuple(CONTENTS))] if given.get("content") else None

    def finished(content: bytes, value: bytes) -> bytes:
        if padding == "pkcs7":
            content = unpadded(content, block_bytes)
        elif padding == "asterisks":
            content = naive(content)
        if compressed and member(value, compressed):
            content = inflated(content)
        return read(content) if read else content

    return finished
