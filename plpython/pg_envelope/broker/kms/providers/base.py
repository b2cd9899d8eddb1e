"""Defines a provider: what the broker needs of a KMS. Every method blocks and is called from worker threads."""

from __future__ import annotations

import base64
import binascii
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from pg_envelope import derivation, errors

_VERSION = re.compile(r"[a-z0-9]{1,16}:v([0-9]{1,9}):")

NO_TLS, NO_NETWORK = "no TLS, on loopback", "no network"

I = TypeVar("I")  # noqa: E741
T = TypeVar("T")


class Item(NamedTuple):
    """A wrapped DEK and the context it was wrapped with."""

    context: str
    wrapped: str


class Plain(NamedTuple):
    """A DEK in the clear, on its way from one KEK to another; never logged, never kept."""

    context: str
    dek: bytes


class Entry(NamedTuple):
    """A wrapped DEK in a key store. `version` is the store's, so that exactly the entry that was read is replaced.

    `kek` is the KEK that wrapped it, by its name in the configuration. It is empty when the entry does not tell.
    """

    wrapped: str
    version: int
    kek: str = ""


@dataclass(frozen=True)
class Description:
    """A KEK that is fit for use: its newest version, and what an operator should know about it.

    `deletable`: a person with the right can delete it as it stands, for good; None when the provider does not tell.
    `oldest`: the oldest version that still opens wraps; None when the provider does not tell.
    `made_at`: when the newest version was made, in seconds since 1970; None when the provider does not tell.
    """

    version: int
    warnings: tuple[str, ...] = ()
    deletable: bool | None = None
    oldest: int | None = None
    made_at: float | None = None


class Store(Protocol):
    """A place beside the KMS where wrapped DEKs live: FORMAT.md section 2.2."""

    def read(self, path: str) -> Entry:
        """Raises KeyNotFound when the store says that the entry is not there or was deleted."""

    def create(self, path: str, wrapped: str, kek: str, fingerprint: bytes) -> None:
        """Raises StoreConflict when there is an entry already, even a deleted one."""

    def replace(self, path: str, wrapped: str, kek: str, fingerprint: bytes, version: int) -> None:
        """Raises StoreConflict when the entry is no longer at this version."""

    def destroy(self, path: str) -> None:
        """Removes the entry with all its versions, for good. Does nothing when there is none."""

    def keep_note(self, environment: str, note: str) -> None:
        """Keeps a checkpoint for ever, beside the store. Raises StoreConflict where another one of its size is."""


class Provider(Protocol):
    """The methods of a provider. All raise KmsUnavailable, KmsSealed, KmsDenied, KmsInvalid, KekUnknown."""

    batch: int
    stores: frozenset[str]

    @property
    def store(self) -> Store | None:
        """The store 'vault', if this KMS has one."""

    def describe(self, key: str) -> Description:
        """Logs in if need be, and reads the KEK. Raises KekUnknown unless the KEK binds a wrap to its context."""

    def generate(self, key: str, context: str) -> str:
        """Returns a new DEK, wrapped."""

    def wrap(self, key: str, items: Sequence[Plain]) -> list[str | errors.EnvelopeError]:
        """Wraps DEKs that another KEK held; at most `batch`."""

    def unwrap(self, key: str, items: Sequence[Item]) -> list[bytes | errors.EnvelopeError]:
        """Opens at most `batch` DEKs in one request. A DEK that does not open is an UnwrapFailed in its place."""

    def rewrap(self, key: str, items: Sequence[Item]) -> list[str | errors.EnvelopeError]:
        """Returns the same DEKs under the KEK's newest version, with errors as in `unwrap`."""

    def rotate(self, key: str) -> int:
        """Makes a new version of the KEK, and returns its number."""

    def token_seconds(self) -> float | None:
        """Returns the seconds for which the login is good, or None when it has no end or there is no login."""

    def tls(self) -> str | None:
        """Returns the version of TLS that the last answer came by, NO_TLS or NO_NETWORK. None when it is not seen."""

    def close(self) -> None:
        """Frees connections and forgets the login."""


class OneByOne(ABC):
    """The common part of all providers that wrap and open one DEK at a time."""

    def generate(self, key: str, context: str) -> str:
        return self._wrap(key, Plain(context, os.urandom(derivation.DEK_BYTES)))

    def tls(self) -> str | None:
        return None

    def wrap(self, key: str, items: Sequence[Plain]) -> list[str | errors.EnvelopeError]:
        return each(items, lambda item: self._wrap(key, item))

    def unwrap(self, key: str, items: Sequence[Item]) -> list[bytes | errors.EnvelopeError]:
        return each(items, lambda item: self._unwrap(key, item))

    def rewrap(self, key: str, items: Sequence[Item]) -> list[str | errors.EnvelopeError]:
        return each(items, lambda item: self._rewrap(key, item))

    @abstractmethod
    def _wrap(self, key: str, item: Plain) -> str: ...

    @abstractmethod
    def _unwrap(self, key: str, item: Item) -> bytes:
        """Raises UnwrapFailed."""

    def _rewrap(self, key: str, item: Item) -> str:
        return self._wrap(key, Plain(item.context, self._unwrap(key, item)))


def kek_version(wrapped: str) -> int:
    """Returns the KEK version that a wrapped DEK names. Raises UnwrapFailed when it names none."""
    found = _VERSION.match(wrapped)
    if found is None:
        raise errors.UnwrapFailed()
    return int(found.group(1))


def compose(prefix: str, version: int, content: bytes) -> str:
    """Returns the text of a wrapped DEK: `<prefix>:v<KEK version>:<base64>`."""
    return f"{prefix}:v{version}:{base64.b64encode(content).decode()}"


def parse(prefix: str, wrapped: str) -> tuple[int, bytes]:
    """Returns (KEK version, content) of a wrapped DEK in that form. Raises UnwrapFailed."""
    version = kek_version(wrapped)
    head = f"{prefix}:v{version}:"
    if not wrapped.startswith(head):
        raise errors.UnwrapFailed()
    return version, decoded(wrapped.removeprefix(head))


def decoded(text: str) -> bytes:
    """Returns the bytes of strict base64. Raises UnwrapFailed."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise errors.UnwrapFailed() from None


def a_dek(content: bytes) -> bytes:
    """Returns the opened bytes, if they can be a DEK. Raises UnwrapFailed."""
    if len(content) != derivation.DEK_BYTES:
        raise errors.UnwrapFailed()
    return content


def each(items: Sequence[I], function: Callable[[I], T]) -> list[T | errors.EnvelopeError]:
    """Returns a result or an UnwrapFailed for each item.

    Any other error is raised, and belongs to the whole request.
    """
    return [_one(item, function) for item in items]


def _one(item: I, function: Callable[[I], T]) -> T | errors.EnvelopeError:
    try:
        return function(item)
    except errors.UnwrapFailed as error:
        return error.with_traceback(None)
