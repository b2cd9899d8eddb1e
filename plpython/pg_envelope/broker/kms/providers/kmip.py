"""Provider for KMIP servers: FORMAT.md section 2.1.

A KEK is the AES-256 keys `<key>-v<version>` in the server, by their attribute Name. The server seals and opens (Encrypt
and Decrypt with AES-GCM), so a KEK stays there. The broker draws DEKs and nonces, because few servers have the
operation for that.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pg_envelope import derivation, errors
from pg_envelope.broker.kms.providers import base
from pg_envelope.broker.kms.providers import kmip_wire as wire
from pg_envelope.broker.kms.providers.kmip_link import KmipLink, connected, error_of
from pg_envelope.broker.kms.providers.kmip_wire import Key, KmipFailed
from pg_envelope.broker.settings.kms import KmipSettings as Settings

PREFIX = "kmip"
NONCE_BYTES = 12
SEALED_BYTES = NONCE_BYTES + derivation.DEK_BYTES + wire.TAG_BYTES
# So many versions in a row may be missing before the next one counts as not there.
AHEAD = 10
UNUSED = {"PRE_ACTIVE", "DESTROYED", "DESTROYED_COMPROMISED"}
# Servers give these reasons for a bad tag, and for much else.
DOUBTFUL = {"CRYPTOGRAPHIC_FAILURE", "GENERAL_FAILURE", "INTERNAL_SERVER_ERROR", "INVALID_FIELD"}
PROBE, PROBE_CONTEXT = bytes(derivation.DEK_BYTES), "pg_envelope/1 probe"

Versions = dict[int, list[Key]]


class Sealed(NamedTuple):
    """A wrapped DEK in its parts."""

    version: int
    nonce: bytes
    content: bytes
    context: str


class Kmip:
    """One server, seen as the identity in the broker's certificate sees it. A request holds many operations."""

    batch = 100
    stores = frozenset({"catalog"})
    store = None

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._binding: set[str] = set()

    def describe(self, key: str) -> base.Description:
        with connected(self._settings) as link:
            versions = _fit(_versions(link, key))
            version, uid = _newest(versions)
            if uid not in self._binding:
                _prove_binding(link, uid)
                self._binding.add(uid)
            return base.Description(version, tuple(_warnings(versions)))

    def generate(self, key: str, context: str) -> str:
        with connected(self._settings) as link:
            return _wrapped(link, key, [base.Plain(context, os.urandom(derivation.DEK_BYTES))])[0]

    def wrap(self, key: str, items: Sequence[base.Plain]) -> list[str | errors.EnvelopeError]:
        with connected(self._settings) as link:
            return [*_wrapped(link, key, items)]

    def unwrap(self, key: str, items: Sequence[base.Item]) -> list[bytes | errors.EnvelopeError]:
        with connected(self._settings) as link:
            return _opened(link, key, items)

    def rewrap(self, key: str, items: Sequence[base.Item]) -> list[str | errors.EnvelopeError]:
        with connected(self._settings) as link:
            found = _opened(link, key, items)
            pairs = zip(items, found, strict=True)
            plain = [base.Plain(item.context, dek) for item, dek in pairs if isinstance(dek, bytes)]
            moved = iter(_wrapped(link, key, plain))
            return [next(moved) if isinstance(one, bytes) else one for one in found]

    def rotate(self, key: str) -> int:
        with connected(self._settings) as link:
            version = max(_versions(link, key)) + 1
            (made,) = link.must(wire.create(_name(key, version)))
            link.must(wire.activate(wire.uid(made)))
            return version

    def token_seconds(self) -> float | None:
        return None

    def tls(self) -> str | None:
        return None

    def close(self) -> None:
        """Has nothing to close: no connection outlives its call."""


def _name(key: str, version: int) -> str:
    return f"{key}-v{version}"


def _located(link: KmipLink, key: str, numbers: Iterable[int]) -> dict[int, list[str]]:
    """Returns the ids of the keys of these versions.

    A server that lets names repeat may have several of one version.
    """
    wanted = list(numbers)
    answers = link.must(*(wire.locate(_name(key, number)) for number in wanted))
    return {number: wire.uids(answer) for number, answer in zip(wanted, answers, strict=True) if wire.uids(answer)}


def _versions(link: KmipLink, key: str) -> Versions:
    """Returns all keys of a KEK, also those that are not yet, or no longer, in use. Raises KekUnknown when there is
    none.
    """
    uids: dict[int, list[str]] = {}
    asked = 0
    while asked < (last := max(uids, default=0) + AHEAD):
        uids |= _located(link, key, range(asked + 1, last + 1))
        asked = last
    if not uids:
        raise errors.KekUnknown(
            "the KMS has no such key",
            detail="There is no symmetric key with the Name <key>-v1 that the broker may see.",
            hint="See docs/providers.md for how to make one.",
        )
    answers = iter(link.must(*(wire.describe(uid) for same in uids.values() for uid in same)))
    return {number: [wire.key(next(answers)) for _ in same] for number, same in uids.items()}


def _fit(versions: Versions) -> Versions:
    """Returns the keys that are or were in use. Raises KekUnknown when one of them is not fit, KmsDenied when there is
    none.
    """
    used = {number: [one for one in same if one.state not in UNUSED] for number, same in versions.items()}
    if not all(one.fit for same in used.values() for one in same):
        raise errors.KekUnknown(
            "the key in the KMS is not fit to be a KEK",
            detail="Each version must be AES with 256 bits, for encrypting and decrypting and nothing else.",
            hint="See docs/providers.md for how to make one.",
        )
    if not any(used.values()):
        raise errors.KmsDenied(detail="no version of the key is active", hint="Activate it in the KMS.")
    return {number: same for number, same in used.items() if same}


def _newest(versions: Versions) -> tuple[int, str]:
    """Returns the version to wrap with, and its id. Raises KmsDenied when it is not active: no older one takes its
    place.
    """
    version = max(versions)
    for one in versions[version]:
        if one.state == "ACTIVE":
            return version, one.uid
    state = versions[version][0].state
    raise errors.KmsDenied(
        detail=f"the key's newest version, {version}, is in the state {state}",
        hint="Make and activate the next version in the KMS, then rewrap.",
    )


def _warnings(versions: Versions) -> list[str]:
    closed = [number for number, same in versions.items() if any(one.state != "ACTIVE" for one in same)]
    return [f"version {number} of the key is not active: what it wrapped may not open" for number in closed]


def _wrapped(link: KmipLink, key: str, items: Sequence[base.Plain]) -> list[str]:
    if not items:
        return []
    version, uid = _newest(_fit(_versions(link, key)))
    nonces = [os.urandom(NONCE_BYTES) for _ in items]
    asks = [wire.encrypt(uid, nonce, item.dek, item.context) for nonce, item in zip(nonces, items, strict=True)]
    contents = [nonce + wire.sealed(answer) for nonce, answer in zip(nonces, link.must(*asks), strict=True)]
    if any(len(content) != SEALED_BYTES for content in contents):
        raise errors.KmsDenied(detail="it does not seal with AES-GCM as it was asked to")
    return [base.compose(PREFIX, version, content) for content in contents]


def _parsed(item: base.Item) -> Sealed:
    version, content = base.parse(PREFIX, item.wrapped)
    if len(content) != SEALED_BYTES:
        raise errors.UnwrapFailed()
    return Sealed(version, content[:NONCE_BYTES], content[NONCE_BYTES:], item.context)


def _opened(link: KmipLink, key: str, items: Sequence[base.Item]) -> list[bytes | errors.EnvelopeError]:
    parsed = base.each(items, _parsed)
    wanted = {one.version for one in parsed if isinstance(one, Sealed)}
    uids = _located(link, key, wanted)
    if wanted and not uids:
        # Raises KekUnknown, unless only these versions are missing.
        _versions(link, key)
    tries = [
        (place, uid, one)
        for place, one in enumerate(parsed)
        if isinstance(one, Sealed)
        for uid in uids.get(one.version, [])
    ]
    answers = link.ask([wire.decrypt(uid, one.nonce, one.content, one.context) for _, uid, one in tries])
    done = list(zip(tries, answers, strict=True))
    deks = {place: base.a_dek(wire.opened(found)) for (place, _, _), found in done if not isinstance(found, KmipFailed)}
    _judge(link, [(uid, found) for (place, uid, _), found in done if place not in deks])
    return [_outcome(one, deks.get(place)) for place, one in enumerate(parsed)]


def _outcome(parsed: Sealed | errors.EnvelopeError, dek: bytes | None) -> bytes | errors.EnvelopeError:
    if isinstance(parsed, errors.EnvelopeError):
        return parsed
    return errors.UnwrapFailed() if dek is None else dek


def _judge(link: KmipLink, failures: Iterable[tuple[str, KmipFailed]]) -> None:
    """Finds out whether each wrap was bad. Servers give one error for a bad tag and for a failure of their own, which
    is raised.
    """
    doubtful = set()
    for uid, failed in failures:
        if failed.reason not in DOUBTFUL:
            raise error_of(failed)
        doubtful.add(uid)
    for uid in doubtful:
        _prove(link, uid)


def _prove(link: KmipLink, uid: str) -> tuple[bytes, bytes]:
    """Lets the key seal and open something, and returns nonce and content. Raises the error when that does not work."""
    nonce = os.urandom(NONCE_BYTES)
    (answer,) = link.must(wire.encrypt(uid, nonce, PROBE, PROBE_CONTEXT))
    content = wire.sealed(answer)
    link.must(wire.decrypt(uid, nonce, content, PROBE_CONTEXT))
    return nonce, content


def _prove_binding(link: KmipLink, uid: str) -> None:
    """Raises KekUnknown when the server opens a wrap under another context: such a server passes over the context."""
    nonce, content = _prove(link, uid)
    (answer,) = link.ask([wire.decrypt(uid, nonce, content, PROBE_CONTEXT + " elsewhere")])
    if not isinstance(answer, KmipFailed):
        raise errors.KekUnknown(
            "the KMS does not bind a wrap to its context",
            detail="It must know AES-GCM with associated data, which is in KMIP since 1.4.",
        )
