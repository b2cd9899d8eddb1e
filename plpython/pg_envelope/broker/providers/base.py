"""What the broker needs of a KMS; every method blocks and is called from worker threads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pg_envelope import errors

_VERSION = re.compile(r"(?:vault|local):v([0-9]{1,9}):")


class Item(NamedTuple):
    """A wrapped DEK and the context it was wrapped with."""

    context: str
    wrapped: str


class Entry(NamedTuple):
    """A wrapped DEK in a key store; `version` is the store's, for replacing exactly what was read."""

    wrapped: str
    version: int


@dataclass(frozen=True)
class Description:
    """A KEK that is fit for use: its newest version, and what an operator should know about it."""

    version: int
    warnings: tuple[str, ...] = ()


class Store(Protocol):
    """A place beside the KMS where wrapped DEKs live: FORMAT.md section 2.2."""

    def read(self, path: str) -> Entry:
        """Raises KeyNotFound when the store says that the entry is not there or was deleted."""

    def create(self, path: str, wrapped: str, kek: str, fingerprint: bytes) -> None:
        """Raises StoreConflict when there is an entry, also a deleted one."""

    def replace(self, path: str, wrapped: str, kek: str, fingerprint: bytes, version: int) -> None:
        """Raises StoreConflict when the entry is no longer at this version."""


class Provider(Protocol):
    """Errors of all methods: KmsUnavailable, KmsSealed, KmsDenied, KekUnknown."""

    batch: int
    stores: frozenset[str]

    @property
    def store(self) -> Store | None:
        """The store 'vault', if this KMS has one."""

    def describe(self, key: str) -> Description:
        """Logs in if need be, reads the KEK, and raises KekUnknown unless it binds a wrap to its context."""

    def generate(self, key: str, context: str) -> str:
        """A new DEK, wrapped."""

    def unwrap(self, key: str, items: Sequence[Item]) -> list[bytes | errors.EnvelopeError]:
        """At most `batch` DEKs in one request; an item that does not open is an UnwrapFailed in its place."""

    def rewrap(self, key: str, items: Sequence[Item]) -> list[str | errors.EnvelopeError]:
        """The same DEKs under the KEK's newest version, as `unwrap`."""

    def rotate(self, key: str) -> int:
        """The KEK's new version."""

    def token_seconds(self) -> float | None:
        """How long the login is good for; None when it has no end, or there is none."""

    def close(self) -> None:
        """Frees connections and forgets the login."""


def kek_version(wrapped: str) -> int:
    """The KEK version that a wrapped DEK names. Raises UnwrapFailed when it names none."""
    found = _VERSION.match(wrapped)
    if found is None:
        raise errors.UnwrapFailed()
    return int(found.group(1))
