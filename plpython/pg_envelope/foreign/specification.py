"""Checks a specification: container, encoding, cipher and derivation, in one JSON object. openers.py reads with it.

    {"container": "json", "ct": "ciphertext", "iv": "iv", "tag": "authTag", "encoding": "base64", "cipher": "aes-gcm"}

docs/adopt.md describes the members.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pg_envelope.foreign.apart import apart, constant
from pg_envelope.foreign.bad import BadLayout, NotOpened
from pg_envelope.foreign.ciphers import METHODS, SIZED, Method
from pg_envelope.foreign.containers import (
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
from pg_envelope.foreign.derivations import derivation, salt_of
from pg_envelope.foreign.encodings import DECODERS, WRAPPINGS
from pg_envelope.foreign.json_forms import Fit, Parts
from pg_envelope.foreign.macs import LEAST_BYTES, Mac, mac

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
        "charset",
        "compressed",
        "hmac",
    ),
    *PARTS,
}
HINT = "docs/adopt.md describes the members of a specification."


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
        return found if self.mac and self.mac.derive and not self.mac.salted else found - {"salt"}

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
    def magic(self) -> bytes:
        return _magic(self.given)

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


def _magic(given: Mapping[str, Any]) -> bytes:
    found = given.get("magic", "")
    return constant("magic", found) if isinstance(found, dict) else _told(given, "magic").encode()


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
        "tag": _size(given, "tag_bytes", checked.tag_bytes if checked else method.tag_bytes),
    }
    passed = {name: _passed_bytes(name) for name in order if name.startswith(PASSED_OVER)}
    known = {name: size for name, size in (sizes | passed).items() if size}
    if missing := set(order) - {"ct"} - set(known):
        raise BadLayout(f"{', '.join(sorted(missing))} has no usual size in this cipher: give iv_bytes", hint=HINT)
    split = beginning(_magic(given), joined(order, known))
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
    tags = range(LEAST_BYTES, checked.tag_bytes + 1) if checked else (method.tag_bytes,)
    if ("tag" in parts and len(parts["tag"]) not in tags) or ("iv" in parts and not method.takes(len(parts["iv"]))):
        raise NotOpened
    if len(parts["ct"]) % method.block_bytes:
        raise NotOpened
    return parts
