"""The requests of backends, checked and typed: FORMAT.md section 4. Anything unexpected is a BadInput."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pg_envelope import errors, wire
from pg_envelope.broker import keys

OPERATIONS = ("status", "generate", "derive", "rewrap", "rotate_kek", "flush", "record")
MAX_DEK_ID = (1 << 63) - 1
MAX_KEY_ID = (1 << 32) - 1
MAX_TEXT = 4096
MAX_WHO = 256
MAX_DEADLINE_MS = (1 << 31) - 1
STATES = ("pre-active", "active", "suspended", "decrypt-only", "compromised", "destroyed")


@dataclass(frozen=True)
class Request:
    """What all requests have; `body` holds the rest."""

    op: str
    deadline_ms: int
    who: dict[str, str | int]
    body: wire.Message


@dataclass(frozen=True)
class FieldRef:
    key_id: int
    field_uuid: UUID
    salt: bytes
    label: str


@dataclass(frozen=True)
class DekRef:
    """A wrapped DEK as the catalog names it."""

    dek_id: int
    kek: str
    store: str
    wrapped: str | None
    fingerprint: bytes
    fields: tuple[FieldRef, ...] = ()


@dataclass(frozen=True)
class Generate:
    database: UUID
    kek: str
    store: str
    dek_id: int


@dataclass(frozen=True)
class Derive:
    database: UUID
    deks: tuple[DekRef, ...]


@dataclass(frozen=True)
class Rewrap:
    """`source` is the KEK and store that the DEKs come from; None when both stay."""

    database: UUID
    kek: str
    store: str
    source: tuple[str, str] | None
    deks: tuple[DekRef, ...]


@dataclass(frozen=True)
class Record:
    """A change of keys' states, for the audit log; a transition is {`dek_id` or `key_id`, `from`, `to`}."""

    database: UUID
    action: str
    label: str
    reason: str
    transitions: tuple[dict[str, int | str | None], ...]


def request(message: wire.Message) -> Request:
    """The common part of a request. Raises BadInput."""
    if message.get("v") != wire.PROTOCOL:
        raise errors.BadInput("the protocol version is not supported", detail=f"this broker speaks {wire.PROTOCOL}")
    op = message.get("op")
    if op not in OPERATIONS:
        raise errors.BadInput("there is no such operation", hint=f"Operations: {', '.join(OPERATIONS)}")
    return Request(op, _integer(message, "deadline_ms", 1, MAX_DEADLINE_MS), _who(message), message)


def generate(body: wire.Message) -> Generate:
    return Generate(_uuid(body, "database_uuid"), _text(body, "kek"), _text(body, "store"), _dek_id(body))


def derive(body: wire.Message) -> Derive:
    return Derive(_uuid(body, "database_uuid"), tuple(_dek(one) for one in _objects(body, "keys")))


def rewrap(body: wire.Message) -> Rewrap:
    kek, store = _text(body, "kek"), _text(body, "store")
    source = (_optional(body, "from_kek", kek), _optional(body, "from_store", store))
    deks = tuple(_plain_dek({**one, "kek": source[0], "store": source[1]}) for one in _objects(body, "deks"))
    return Rewrap(_uuid(body, "database_uuid"), kek, store, source if source != (kek, store) else None, deks)


def rotate_kek(body: wire.Message) -> str:
    """The KEK's name."""
    return _text(body, "kek")


def flush(body: wire.Message) -> str:
    """The reason."""
    return _text(body, "reason")


def record(body: wire.Message) -> Record:
    transitions = tuple(_transition(one) for one in _objects(body, "transitions"))
    action, label, reason = (_text(body, name) for name in ("action", "label", "reason"))
    return Record(_uuid(body, "database_uuid"), action, label, reason, transitions)


def _transition(found: wire.Message) -> dict[str, int | str | None]:
    name = "dek_id" if "dek_id" in found else "key_id"
    most = MAX_DEK_ID if name == "dek_id" else MAX_KEY_ID
    before = None if found.get("from") is None else _state(found, "from")
    return {name: _integer(found, name, 1, most), "from": before, "to": _state(found, "to")}


def _state(found: wire.Message, name: str) -> str:
    if (value := found.get(name)) not in STATES:
        raise _bad(name)
    return str(value)


def _dek(found: wire.Message) -> DekRef:
    plain = _plain_dek(found)
    fields = tuple(_field(one) for one in _objects(found, "fields"))
    return DekRef(plain.dek_id, plain.kek, plain.store, plain.wrapped, plain.fingerprint, fields)


def _plain_dek(found: wire.Message) -> DekRef:
    return DekRef(
        _dek_id(found),
        _text(found, "kek"),
        _text(found, "store"),
        None if found.get("wrapped") is None else _text(found, "wrapped"),
        _bytes(found, "fingerprint", keys.FINGERPRINT_BYTES),
    )


def _field(found: wire.Message) -> FieldRef:
    return FieldRef(
        _integer(found, "key_id", 1, MAX_KEY_ID),
        _uuid(found, "field_uuid"),
        _bytes(found, "salt", keys.SALT_BYTES),
        _text(found, "label"),
    )


def _who(message: wire.Message) -> dict[str, str | int]:
    """Who asks, for the audit log: known members only, of bounded length; what is not there is left out."""
    found = message.get("who")
    if not isinstance(found, dict):
        raise _bad("who")
    known = {name: found.get(name) for name in wire.Who.__annotations__}
    return {
        name: value[:MAX_WHO] if isinstance(value, str) else value
        for name, value in known.items()
        if isinstance(value, str | int)
    }


def _bad(name: str) -> errors.BadInput:
    return errors.BadInput(f"the request's member {name} is missing or not valid")


def _dek_id(found: wire.Message) -> int:
    return _integer(found, "dek_id", 1, MAX_DEK_ID)


def _integer(found: wire.Message, name: str, least: int, most: int) -> int:
    value = found.get(name)
    if type(value) is not int or not least <= value <= most:
        raise _bad(name)
    return value


def _text(found: wire.Message, name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise _bad(name)
    return value


def _optional(found: wire.Message, name: str, default: str) -> str:
    return default if found.get(name) is None else _text(found, name)


def _uuid(found: wire.Message, name: str) -> UUID:
    try:
        return UUID(_text(found, name))
    except ValueError:
        raise _bad(name) from None


def _bytes(found: wire.Message, name: str, length: int) -> bytes:
    try:
        value = base64.b64decode(_text(found, name), validate=True)
    except (binascii.Error, ValueError):
        raise _bad(name) from None
    if len(value) != length:
        raise _bad(name)
    return value


def _objects(found: wire.Message, name: str) -> list[dict[str, Any]]:
    value = found.get(name)
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise _bad(name)
    return value
