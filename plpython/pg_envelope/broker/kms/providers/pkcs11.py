"""Provider for PKCS#11 HSMs: FORMAT.md section 2.1. Only the pkcs11* modules know python-pkcs11.

A KEK is the AES-256 keys of one label in the token. The id (CKA_ID) of each is its version, 4 bytes, big endian. The
HSM's own generator draws DEKs and nonces, and the HSM seals and opens, so a KEK never leaves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pkcs11 import Attribute, GCMParams, KeyType, Mechanism, MechanismFlag, ObjectClass, exceptions

from pg_envelope import derivation, errors
from pg_envelope.broker.kms.providers import base
from pg_envelope.broker.kms.providers.pkcs11_token import Pkcs11Token
from pg_envelope.broker.settings.kms import Pkcs11Settings as Settings

PREFIX = "pkcs11"
KEK_BYTES = 32
NONCE_BYTES = 12
TAG_BITS = 128
SEALED_BYTES = NONCE_BYTES + derivation.DEK_BYTES + TAG_BITS // 8
ID_BYTES = 4
# A thief could not use it: it proves only that the key still works.
PROBE = bytes(derivation.DEK_BYTES)

Versions = dict[int, list[Any]]


class Pkcs11:
    """One token. A call into the module is short, so a request takes many DEKs one after the other."""

    batch = 200
    stores = frozenset({"catalog"})
    store = None

    def __init__(self, settings: Settings) -> None:
        self._token = Pkcs11Token(settings)

    def describe(self, key: str) -> base.Description:
        return self._token.run(lambda session: _description(_versions(session, key)))

    def generate(self, key: str, context: str) -> str:
        def work(session: Any) -> str:
            dek = session.generate_random(8 * derivation.DEK_BYTES)
            return _wrapped(session, _versions(session, key), base.Plain(context, dek))

        return self._token.run(work)

    def wrap(self, key: str, items: Sequence[base.Plain]) -> list[str | errors.EnvelopeError]:
        def work(session: Any) -> list[str | errors.EnvelopeError]:
            versions = _versions(session, key)
            return [_wrapped(session, versions, item) for item in items]

        return self._token.run(work)

    def unwrap(self, key: str, items: Sequence[base.Item]) -> list[bytes | errors.EnvelopeError]:
        def work(session: Any) -> list[bytes | errors.EnvelopeError]:
            versions = _versions(session, key)
            return base.each(items, lambda item: _opened(session, versions, item))

        return self._token.run(work)

    def rewrap(self, key: str, items: Sequence[base.Item]) -> list[str | errors.EnvelopeError]:
        def work(session: Any) -> list[str | errors.EnvelopeError]:
            versions = _versions(session, key)

            def moved(item: base.Item) -> str:
                return _wrapped(session, versions, base.Plain(item.context, _opened(session, versions, item)))

            return base.each(items, moved)

        return self._token.run(work)

    def rotate(self, key: str) -> int:
        return self._token.writing(lambda session: _add_version(session, key))

    def token_seconds(self) -> float | None:
        return None

    def tls(self) -> str | None:
        return None

    def close(self) -> None:
        self._token.close()


def _versions(session: Any, key: str) -> Versions:
    """Returns the keys of a label by version. Two that were made at one moment may share a version, and both count."""
    template = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.LABEL: key, Attribute.TOKEN: True}
    found: Versions = {}
    for one in session.get_objects(template):
        number = one[Attribute.ID]
        if len(number) == ID_BYTES and int.from_bytes(number, "big") > 0:
            found.setdefault(int.from_bytes(number, "big"), []).append(one)
    if not found:
        raise errors.KekUnknown(
            "the token has no such key",
            detail="A key of this label, whose id is its version in 4 bytes, is not there.",
            hint="See docs/providers.md for how to make one.",
        )
    return found


def _description(versions: Versions) -> base.Description:
    if not all(_is_fit(one) for same in versions.values() for one in same):
        raise errors.KekUnknown(
            "the key in the token is not fit to be a KEK",
            detail="Each version must be AES with 256 bits, sensitive, not extractable, for encrypting and decrypting.",
            hint="See docs/providers.md for how to make one.",
        )
    foreign = not all(one[Attribute.NEVER_EXTRACTABLE] for same in versions.values() for one in same)
    warnings = ("the key in the token was once extractable, or was made outside it",) if foreign else ()
    return base.Description(max(versions), warnings, _destroyable(versions))


def _destroyable(versions: Versions) -> bool | None:
    """Asks CKA_DESTROYABLE, which tokens older than PKCS#11 2.40 do not know."""
    try:
        return any(one[Attribute.DESTROYABLE] for same in versions.values() for one in same)
    except (exceptions.AttributeTypeInvalid, KeyError):
        return None


def _is_fit(key: Any) -> bool:
    return (
        key.key_type is KeyType.AES
        and key[Attribute.VALUE_LEN] == KEK_BYTES
        and key[Attribute.SENSITIVE]
        and not key[Attribute.EXTRACTABLE]
        and key[Attribute.ENCRYPT]
        and key[Attribute.DECRYPT]
    )


def _add_version(session: Any, key: str) -> int:
    version = max(_versions(session, key)) + 1
    session.generate_key(
        KeyType.AES,
        8 * KEK_BYTES,
        id=version.to_bytes(ID_BYTES, "big"),
        label=key,
        store=True,
        capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
        template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
    )
    return version


def _wrapped(session: Any, versions: Versions, item: base.Plain) -> str:
    version = max(versions)
    nonce = session.generate_random(8 * NONCE_BYTES)
    sealed = versions[version][0].encrypt(item.dek, **_gcm(nonce, item.context))
    return base.compose(PREFIX, version, nonce + sealed)


def _opened(session: Any, versions: Versions, item: base.Item) -> bytes:
    version, content = base.parse(PREFIX, item.wrapped)
    if len(content) != SEALED_BYTES:
        raise errors.UnwrapFailed()
    for key in versions.get(version, []):
        try:
            return base.a_dek(key.decrypt(content[NONCE_BYTES:], **_gcm(content[:NONCE_BYTES], item.context)))
        except exceptions.PKCS11Error:
            _prove(session, key)
    raise errors.UnwrapFailed()


def _prove(session: Any, key: Any) -> None:
    """Raises PKCS11Error when the key does not work: modules give one error for a bad tag and a lost token."""
    options = _gcm(session.generate_random(8 * NONCE_BYTES), "pg_envelope/1 probe")
    key.decrypt(key.encrypt(PROBE, **options), **options)


def _gcm(nonce: bytes, context: str) -> dict[str, Any]:
    return {"mechanism": Mechanism.AES_GCM, "mechanism_param": GCMParams(nonce, context.encode(), TAG_BITS)}
