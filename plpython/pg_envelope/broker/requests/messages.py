"""Declares once what a backend may ask for: FORMAT.md section 4. A test compares the page with these classes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from pg_envelope import errors, wire
from pg_envelope.broker.requests.objects import (
    DekId,
    DekRef,
    DekWithFields,
    ErasedRef,
    Hash,
    HashSalt,
    Identity,
    KeyId,
    Name,
    NamedDek,
    Number,
    OldestKey,
    PlantedField,
    RingId,
    SealedRef,
    Transition,
    Version,
    WrappedDek,
)
from pg_envelope.broker.requests.reading import Count, Flag, Integer, Object, Text, bad, read

MAX_WHO = 256


def look(value: object) -> str | bool:
    """Reads the name of a KEK, or True for each KEK. Raises ValueError."""
    return value if isinstance(value, bool) else Text()(value)


def _who(value: object) -> dict[str, str | int]:
    """Keeps known members only, of bounded length. A member that is missing is left out."""
    found = Object()(value)
    known = {name: found.get(name) for name in wire.Who.__annotations__}
    return {
        name: value[:MAX_WHO] if isinstance(value, str) else value
        for name, value in known.items()
        if isinstance(value, str | int)
    }


@dataclass(frozen=True)
class Request:
    """The members that all requests have."""

    op: Name
    deadline_ms: Annotated[int, Integer(1, (1 << 31) - 1)]
    who: Annotated[dict[str, str | int], _who]
    environment: Name | None


@dataclass(frozen=True)
class StatusRequest:
    """Asks for the broker's state. `look` is a KEK that the broker asks for first, or True for each."""

    look: Annotated[str | bool, look] | None

    def looked(self, keks: Iterable[str]) -> list[str]:
        """The KEKs that the broker asks for first."""
        return [name for name in keks if self.look is True or self.look == name]


@dataclass(frozen=True)
class GenerateRequest:
    """One new DEK from the KMS's generator."""

    database_uuid: Identity
    kek: Name
    store: Name
    dek_id: DekId


@dataclass(frozen=True)
class GenerateManyRequest:
    """New DEKs from the broker's generator, for store `catalog`."""

    database_uuid: Identity
    kek: Name
    store: Name
    dek_ids: Annotated[tuple[DekId, ...], Count(1, 200, different=True)]
    label: Name = ""


@dataclass(frozen=True)
class DeriveRequest:
    """Asks for field keys. `ahead` is how many of the last keys nobody has asked for yet."""

    database_uuid: Identity
    keys: tuple[DekWithFields, ...]
    ahead: Number = 0


@dataclass(frozen=True)
class RewrapRequest:
    """Asks to move DEKs to the KEK's newest version, or to another KEK, store, environment or database."""

    database_uuid: Identity
    kek: Name
    store: Name
    deks: tuple[WrappedDek, ...]
    from_kek: Name | None = None
    from_store: Name | None = None
    from_environment: Name | None = None
    from_database: Identity | None = None

    def __post_init__(self) -> None:
        if self.from_environment is not None and self.from_database is None:
            raise bad("from_database")

    @property
    def source(self) -> tuple[str, str] | None:
        """The KEK and store that the DEKs come from. None when nothing changes but the KEK's version."""
        old = (self.from_kek or self.kek, self.from_store or self.store)
        return old if self.origin is not None or old != (self.kek, self.store) else None

    @property
    def origin(self) -> tuple[str, UUID] | None:
        """The environment and database that the DEKs come from. None when both stay."""
        if self.from_environment is None or self.from_database is None:
            return None
        return self.from_environment, self.from_database


@dataclass(frozen=True)
class RotateKekRequest:
    """`kek_version` is the KEK's newest version that the catalog knows; 0 for none."""

    kek: Name
    kek_version: Version = 0


@dataclass(frozen=True)
class FlushRequest:
    reason: Name


@dataclass(frozen=True)
class ScheduleRequest:
    """Tells how many keys of the database are overdue, and since when each level's oldest key is in use."""

    overdue: Number
    oldest: tuple[OldestKey, ...] = ()


@dataclass(frozen=True)
class RecordRequest:
    """Changes of keys' states, for the audit log."""

    database_uuid: Identity
    action: Name
    label: Name
    reason: Name
    transitions: tuple[Transition, ...]


@dataclass(frozen=True)
class KeysBackupRequest:
    """DEKs for a backup."""

    database_uuid: Identity
    deks: tuple[DekRef, ...]


@dataclass(frozen=True)
class KeysReturnRequest:
    """DEKs out of a backup for a KEK. Without DEKs it asks for the broker's one-time key."""

    database_uuid: Identity
    kek: Name
    deks: tuple[SealedRef, ...]
    public_key: Name = ""


@dataclass(frozen=True)
class ProveRequest:
    """DEKs that the KMS is to open."""

    database_uuid: Identity
    deks: Annotated[tuple[DekRef, ...], Count(0, 200, different=True)]


@dataclass(frozen=True)
class RefusedRequest:
    """Tells the audit log what a backend refused for want of a right."""

    reason: Name
    label: Name | None
    key_id: Number | None
    skipped: Number | None

    def told(self) -> dict[str, str | int]:
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class FailedRequest:
    """Tells of a value that did not open, by the error's code."""

    error: Name
    skipped: Number | None


@dataclass(frozen=True)
class SignRequest:
    """A statement for a DEK to sign."""

    database_uuid: Identity
    key: DekWithFields
    statement: Annotated[dict[str, Any], Object()]


@dataclass(frozen=True)
class PlantRequest:
    """Asks for field keys whose next use is an alarm."""

    database_uuid: Identity
    key: DekRef
    fields: Annotated[tuple[PlantedField, ...], Count(1, 2000)]


@dataclass(frozen=True)
class EraseRequest:
    """Asks to erase DEKs. `subject` is SHA-256(salt | subject) in hex.

    It is None, as `salt` is, for a whole table or a named key. With `rehearse` nothing is erased: an error tells that a
    store would not let it.
    """

    database_uuid: Identity
    label: Name
    reason: Name
    subject: Hash | None
    salt: HashSalt | None
    deks: Annotated[tuple[ErasedRef, ...], Count(1, 1000)]
    rehearse: Annotated[bool, Flag()] = False

    def __post_init__(self) -> None:
        if (self.subject is None) != (self.salt is None):
            raise bad("subject")


@dataclass(frozen=True)
class ErasuresRequest:
    """Asks for a page of the ledger: entries of one database after the first `after`, at most `most`.

    `deks` are DEKs about which the answer tells whether they are dead.
    """

    database_uuid: Identity
    after: Version
    most: Version
    verify: Annotated[bool, Flag()] = False
    deks: tuple[NamedDek, ...] = ()


@dataclass(frozen=True)
class AttachRequest:
    """Brings a session's ring, by its id. Its descriptor comes with the first byte of the frame."""

    ring: RingId


@dataclass(frozen=True)
class DrainRequest:
    """Asks that the events of this connection's ring up to number `seq` are on the disk before the answer."""

    seq: Version


@dataclass(frozen=True)
class SpendRequest:
    """Asks how many of the `wanted` values of a column a user may read, of `rows` in any `seconds`."""

    field: Identity
    user: Name
    rows: KeyId
    seconds: KeyId
    refuses: Annotated[bool, Flag()]
    wanted: KeyId


OPERATIONS: dict[str, tuple[type[Any], ...]] = {
    "status": (StatusRequest,),
    "generate": (GenerateRequest, GenerateManyRequest),
    "derive": (DeriveRequest,),
    "rewrap": (RewrapRequest,),
    "rotate_kek": (RotateKekRequest,),
    "flush": (FlushRequest,),
    "schedule": (ScheduleRequest,),
    "record": (RecordRequest,),
    "keys_backup": (KeysBackupRequest,),
    "keys_return": (KeysReturnRequest,),
    "prove": (ProveRequest,),
    "refused": (RefusedRequest,),
    "failed": (FailedRequest,),
    "sign": (SignRequest,),
    "plant": (PlantRequest,),
    "erase": (EraseRequest,),
    "erasures": (ErasuresRequest,),
    "attach": (AttachRequest,),
    "drain": (DrainRequest,),
    "spend": (SpendRequest,),
}


def request(message: wire.Message) -> Request:
    """Reads the part that all requests have. Raises BadInput."""
    if message.get("v") != wire.PROTOCOL:
        raise errors.BadInput("the protocol version is not supported", detail=f"this broker speaks {wire.PROTOCOL}")
    op = message.get("op")
    if not isinstance(op, str) or op not in OPERATIONS:
        raise errors.BadInput("there is no such operation", hint=f"Operations: {', '.join(OPERATIONS)}")
    return read(Request, message)
