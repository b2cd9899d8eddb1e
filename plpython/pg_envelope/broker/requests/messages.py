"""The requests of backends, checked and typed: FORMAT.md section 4. Anything unexpected is a BadInput."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from pg_envelope import derivation, errors, wire
from pg_envelope.broker.ledger.erasures import Dying

OPERATIONS = (
    "status",
    "generate",
    "derive",
    "rewrap",
    "rotate_kek",
    "flush",
    "schedule",
    "record",
    "sign",
    "erase",
    "erasures",
    "escrow",
    "adopt",
    "refused",
    "prove",
)
MAX_DEK_ID = (1 << 63) - 1
MAX_GENERATED = 200
MAX_KEY_ID = (1 << 32) - 1
MAX_TEXT = 4096
MAX_WHO = 256
MAX_ERASED = 1000
MAX_DEADLINE_MS = (1 << 31) - 1
HASH = re.compile("[0-9a-f]{64}")
SALT = re.compile("[0-9a-f]{32}")
STATES = ("pre-active", "active", "suspended", "decrypt-only", "compromised", "destroyed")


@dataclass(frozen=True)
class Request:
    """What all requests have; `body` holds the rest."""

    op: str
    deadline_ms: int
    who: dict[str, str | int]
    body: wire.Message
    environment: str | None = None


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


class Erasable(Protocol):
    """What it takes to know whether a DEK was erased."""

    @property
    def dek_id(self) -> int: ...

    @property
    def fingerprint(self) -> bytes: ...


@dataclass(frozen=True)
class Generate:
    """`many` is whether the request asked for several DEKs, and so for a list."""

    database: UUID
    kek: str
    store: str
    dek_ids: tuple[int, ...]
    many: bool
    label: str


@dataclass(frozen=True)
class Derive:
    """`ahead` is how many of the keys, the last ones, nobody has asked for yet."""

    database: UUID
    deks: tuple[DekRef, ...]
    ahead: int = 0


@dataclass(frozen=True)
class Rewrap:
    """`source` is the KEK and store that the DEKs come from, None when both stay; `origin` the environment and database
    that they come from, None when those stay, too. With an origin there is always a source.
    """

    database: UUID
    kek: str
    store: str
    source: tuple[str, str] | None
    deks: tuple[DekRef, ...]
    origin: tuple[str, UUID] | None = None


@dataclass(frozen=True)
class Record:
    """A change of keys' states, for the audit log; a transition is {`dek_id` or `key_id`, `from`, `to`}."""

    database: UUID
    action: str
    label: str
    reason: str
    transitions: tuple[dict[str, int | str | None], ...]


@dataclass(frozen=True)
class Sign:
    """A statement for a DEK to sign."""

    database: UUID
    dek: DekRef
    statement: dict[str, Any]


@dataclass(frozen=True)
class Escrow:
    """DEKs for a backup."""

    database: UUID
    deks: tuple[DekRef, ...]


@dataclass(frozen=True)
class Prove:
    """DEKs that the KMS is to open."""

    database: UUID
    deks: tuple[DekRef, ...]


@dataclass(frozen=True)
class SealedDek:
    """A DEK out of a backup, sealed for the broker's one-time key; `fingerprint` is the catalog's."""

    dek_id: int
    fingerprint: bytes
    sealed: str


@dataclass(frozen=True)
class Adopt:
    """DEKs out of a backup for a KEK; without any, the broker's one-time key is asked for."""

    database: UUID
    kek: str
    public_key: str
    deks: tuple[SealedDek, ...]


@dataclass(frozen=True)
class Erase:
    """`subject` is SHA-256(salt | subject) in hex; None, with `salt`, for a whole table or a named key."""

    database: UUID
    label: str
    reason: str
    subject: str | None
    salt: str | None
    deks: tuple[Dying, ...]


@dataclass(frozen=True)
class NamedDek:
    """A DEK of which only is asked whether it was erased."""

    dek_id: int
    fingerprint: bytes


@dataclass(frozen=True)
class Erased:
    """A page of the ledger: entries of one database after the first `after`, at most `most`; `deks`: are they dead?"""

    database: UUID
    after: int
    most: int
    verify: bool
    deks: tuple[NamedDek, ...] = ()


def request(message: wire.Message) -> Request:
    """The common part of a request. Raises BadInput."""
    if message.get("v") != wire.PROTOCOL:
        raise errors.BadInput("the protocol version is not supported", detail=f"this broker speaks {wire.PROTOCOL}")
    op = message.get("op")
    if op not in OPERATIONS:
        raise errors.BadInput("there is no such operation", hint=f"Operations: {', '.join(OPERATIONS)}")
    environment = None if message.get("environment") is None else _text(message, "environment")
    return Request(op, _integer(message, "deadline_ms", 1, MAX_DEADLINE_MS), _who(message), message, environment)


def generate(body: wire.Message) -> Generate:
    many = "dek_ids" in body
    dek_ids = tuple(_dek_ids(body)) if many else (_dek_id(body),)
    label = _optional(body, "label", "")
    return Generate(_uuid(body, "database_uuid"), _text(body, "kek"), _text(body, "store"), dek_ids, many, label)


def _dek_ids(body: wire.Message) -> list[int]:
    found = body["dek_ids"]
    if not isinstance(found, list) or not 0 < len(found) <= MAX_GENERATED or len(set(map(str, found))) < len(found):
        raise _bad("dek_ids")
    return [_dek_id({"dek_id": one}) for one in found]


def derive(body: wire.Message) -> Derive:
    ahead = _integer(body, "ahead", 0, MAX_KEY_ID) if "ahead" in body else 0
    return Derive(_uuid(body, "database_uuid"), tuple(_dek(one) for one in _objects(body, "keys")), ahead)


def rewrap(body: wire.Message) -> Rewrap:
    kek, store = _text(body, "kek"), _text(body, "store")
    source = (_optional(body, "from_kek", kek), _optional(body, "from_store", store))
    deks = tuple(_plain_dek({**one, "kek": source[0], "store": source[1]}) for one in _objects(body, "deks"))
    origin = None if body.get("from_environment") is None else _origin(body)
    moved = origin is not None or source != (kek, store)
    return Rewrap(_uuid(body, "database_uuid"), kek, store, source if moved else None, deks, origin)


def _origin(body: wire.Message) -> tuple[str, UUID]:
    return _text(body, "from_environment"), _uuid(body, "from_database")


def rotate_kek(body: wire.Message) -> tuple[str, int]:
    """The KEK's name, and its newest version that the catalog knows: 0 for none."""
    known = 0 if body.get("kek_version") is None else _integer(body, "kek_version", 0, MAX_DEK_ID)
    return _text(body, "kek"), known


def schedule(body: wire.Message) -> int:
    """How many keys of the database are overdue."""
    return _integer(body, "overdue", 0, MAX_KEY_ID)


def flush(body: wire.Message) -> str:
    """The reason."""
    return _text(body, "reason")


def record(body: wire.Message) -> Record:
    transitions = tuple(_transition(one) for one in _objects(body, "transitions"))
    action, label, reason = (_text(body, name) for name in ("action", "label", "reason"))
    return Record(_uuid(body, "database_uuid"), action, label, reason, transitions)


def refused(body: wire.Message) -> dict[str, str | int]:
    """What a backend refused for want of a right, for the audit log."""
    found: dict[str, str | int] = {"reason": _text(body, "reason")}
    if body.get("label") is not None:
        found["label"] = _text(body, "label")
    for name in ("key_id", "skipped"):
        if body.get(name) is not None:
            found[name] = _integer(body, name, 0, MAX_KEY_ID)
    return found


def escrow(body: wire.Message) -> Escrow:
    return Escrow(_uuid(body, "database_uuid"), tuple(_plain_dek(one) for one in _objects(body, "deks")))


def prove(body: wire.Message) -> Prove:
    deks = tuple(_plain_dek(one) for one in _objects(body, "deks"))
    if len(deks) > MAX_GENERATED or len({dek.dek_id for dek in deks}) < len(deks):
        raise _bad("deks")
    return Prove(_uuid(body, "database_uuid"), deks)


def status(body: wire.Message, keks: Iterable[str]) -> list[str]:
    """Those of the KEKs that are to be looked at first."""
    look = body.get("look")
    return [name for name in keks if look is True or look == name]


def adopt(body: wire.Message) -> Adopt:
    deks = tuple(_sealed_dek(one) for one in _objects(body, "deks"))
    return Adopt(_uuid(body, "database_uuid"), _text(body, "kek"), _optional(body, "public_key", ""), deks)


def _sealed_dek(found: wire.Message) -> SealedDek:
    fingerprint = _bytes(found, "fingerprint", derivation.FINGERPRINT_BYTES)
    return SealedDek(_dek_id(found), fingerprint, _text(found, "sealed"))


def sign(body: wire.Message) -> Sign:
    return Sign(_uuid(body, "database_uuid"), _dek(_object(body, "key")), _object(body, "statement"))


def erase(body: wire.Message) -> Erase:
    deks = tuple(_dying(one) for one in _objects(body, "deks"))
    if not 0 < len(deks) <= MAX_ERASED:
        raise _bad("deks")
    subject, salt = (None if body.get(name) is None else _text(body, name) for name in ("subject", "salt"))
    if not (subject is salt is None or (HASH.fullmatch(subject or "") and SALT.fullmatch(salt or ""))):
        raise _bad("subject")
    return Erase(_uuid(body, "database_uuid"), _text(body, "label"), _text(body, "reason"), subject, salt, deks)


def erased(body: wire.Message) -> Erased:
    after, most = (_integer(body, name, 0, MAX_DEK_ID) for name in ("after", "most"))
    deks = tuple(_named_dek(one) for one in _objects(body, "deks")) if "deks" in body else ()
    return Erased(_uuid(body, "database_uuid"), after, most, body.get("verify") is True, deks)


def _named_dek(found: wire.Message) -> NamedDek:
    return NamedDek(_dek_id(found), _bytes(found, "fingerprint", derivation.FINGERPRINT_BYTES))


def _dying(found: wire.Message) -> Dying:
    version = None if found.get("kek_version") is None else _integer(found, "kek_version", 0, MAX_DEK_ID)
    fingerprint = _bytes(found, "fingerprint", derivation.FINGERPRINT_BYTES)
    return Dying(_dek_id(found), fingerprint, _text(found, "kek"), _text(found, "store"), version)


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
        _bytes(found, "fingerprint", derivation.FINGERPRINT_BYTES),
    )


def _field(found: wire.Message) -> FieldRef:
    return FieldRef(
        _integer(found, "key_id", 1, MAX_KEY_ID),
        _uuid(found, "field_uuid"),
        _bytes(found, "salt", derivation.SALT_BYTES),
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


def _object(found: wire.Message, name: str) -> dict[str, Any]:
    value = found.get(name)
    if not isinstance(value, dict):
        raise _bad(name)
    return value


def _objects(found: wire.Message, name: str) -> list[dict[str, Any]]:
    value = found.get(name)
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise _bad(name)
    return value
