"""Declares the objects that requests hold, and the types of their members: FORMAT.md section 4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol
from uuid import UUID

from pg_envelope import derivation
from pg_envelope.broker.ledger.erasures import DyingDek
from pg_envelope.broker.requests.reading import Base64, Integer, Text, Uuid, bad

MAX_COUNT = (1 << 32) - 1
STATE = "pre-active|active|suspended|decrypt-only|compromised|destroyed"

DekId = Annotated[int, Integer(1, (1 << 63) - 1)]
KeyId = Annotated[int, Integer(1, MAX_COUNT)]
Number = Annotated[int, Integer(0, MAX_COUNT)]
Version = Annotated[int, Integer(0, (1 << 63) - 1)]
Name = Annotated[str, Text()]
State = Annotated[str, Text(STATE)]
Hash = Annotated[str, Text("[0-9a-f]{64}")]
RingId = Annotated[str, Text("[0-9a-f]{32}")]
HashSalt = Annotated[str, Text("[0-9a-f]{32}")]
Identity = Annotated[UUID, Uuid()]
Fingerprint = Annotated[bytes, Base64(derivation.FINGERPRINT_BYTES)]
Salt = Annotated[bytes, Base64(derivation.SALT_BYTES)]


class DekIdentity(Protocol):
    """The id and the fingerprint of a DEK, which tell whether it was erased."""

    @property
    def dek_id(self) -> int: ...

    @property
    def fingerprint(self) -> bytes: ...


@dataclass(frozen=True)
class FieldRef:
    """A field key to derive."""

    key_id: KeyId
    field_uuid: Identity
    salt: Salt
    label: Name


@dataclass(frozen=True)
class NamedDek:
    """A DEK about which the backend asks only whether it was erased."""

    dek_id: DekId
    fingerprint: Fingerprint


@dataclass(frozen=True)
class WrappedDek:
    """A wrapped DEK whose KEK and store the request tells; `wrapped` is None in store `vault`."""

    dek_id: DekId
    wrapped: Name | None
    fingerprint: Fingerprint


@dataclass(frozen=True)
class DekRef:
    """A wrapped DEK as the catalog names it."""

    dek_id: DekId
    kek: Name
    store: Name
    wrapped: Name | None
    fingerprint: Fingerprint


@dataclass(frozen=True)
class DekWithFields(DekRef):
    fields: tuple[FieldRef, ...]


@dataclass(frozen=True)
class OldestKey:
    """The oldest active key of a level: `since` is in seconds since 1970."""

    level: Name
    since: Number


@dataclass(frozen=True)
class PlantedField:
    """A field key to make for a canary."""

    key_id: KeyId
    field_uuid: Identity
    label: Name


@dataclass(frozen=True)
class SealedRef:
    """A DEK out of a backup, sealed for the broker's one-time key; `fingerprint` is the catalog's."""

    dek_id: DekId
    fingerprint: Fingerprint
    sealed: Name


@dataclass(frozen=True)
class ErasedRef(DyingDek):
    """A DEK to erase, as the ledger takes it."""

    dek_id: DekId
    fingerprint: Fingerprint
    kek: Name
    store: Name
    kek_version: Version | None


@dataclass(frozen=True)
class Transition:
    """A key's change of state. It has one of the two ids; `from_` is None for a new key."""

    dek_id: DekId | None
    key_id: KeyId | None
    from_: State | None
    to: State

    def __post_init__(self) -> None:
        if (self.dek_id is None) == (self.key_id is None):
            raise bad("key_id")

    def told(self) -> dict[str, int | str | None]:
        """Returns the change as the audit log has it."""
        one = {"key_id": self.key_id} if self.dek_id is None else {"dek_id": self.dek_id}
        return {**one, "from": self.from_, "to": self.to}
