"""Provider `secrets`: KEKs from two secrets in the environment, a base secret and one for each KEK: FORMAT.md section
2.1.

A KEK comes from both by HKDF, so either secret alone is of no use. A KEK rotates when its next secret is there at the
next start: <purpose_secret>_<KEY>_V2 and so on. The older secrets must stay as long as one of their wraps does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pg_envelope import derivation, errors
from pg_envelope.broker.kms.providers import base, seal
from pg_envelope.broker.settings.kms import SecretsSettings as Settings

PREFIX = "secrets"
LEAST, MOST = 32, 4096
KEK_BYTES, CHECK_BYTES = 32, 8
FORM = re.compile(r"[!-~]+\Z")
HINT = "Make one with: openssl rand -base64 48"


class SecretsProvider(base.OneByOne):
    """Reads the environment once, because the environment of a process does not change."""

    batch = 1000
    stores = frozenset({"catalog"})
    store = None

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keks: dict[str, dict[int, bytes]] = {}

    def describe(self, key: str) -> base.Description:
        return base.Description(max(self._versions(key)))

    def rotate(self, key: str) -> int:
        following = f"{variable(self._settings, key)}_V{max(self._versions(key)) + 1}"
        raise errors.Unsupported(
            "a KEK from secrets in the environment cannot rotate itself",
            hint=f"Set {following} to a new secret, keep the older ones, restart the broker, then rewrap.",
        )

    def token_seconds(self) -> float | None:
        return None

    def tls(self) -> str | None:
        return base.NO_NETWORK

    def close(self) -> None:
        self._keks = {}

    def _wrap(self, key: str, item: base.Plain) -> str:
        return _wrapped(self._versions(key), item)

    def _unwrap(self, key: str, item: base.Item) -> bytes:
        return _opened(self._versions(key), item)

    def _versions(self, key: str) -> dict[int, bytes]:
        if key not in self._keks:
            try:
                self._keks[key] = _keks(self._settings, key)
            except errors.NotConfigured as error:
                raise errors.KmsDenied("a secret is not fit", detail=error.message, hint=error.hint) from None
        return self._keks[key]


def check(settings: Settings, key: str) -> None:
    """Raises NotConfigured when a secret of the KEK is not set, too short or of a wrong format."""
    _keks(settings, key)


def names(settings: Settings, key: str) -> list[str]:
    """Returns the variables from which the KEK is made, as many as are set."""
    return [settings.base_secret, *_purposes(settings, key)]


def variable(settings: Settings, key: str) -> str:
    """Returns the variable of a KEK's first secret: capital letters, with '_' for '.' and '-'."""
    return f"{settings.purpose_secret}_{re.sub(r'[^A-Z0-9]', '_', key.upper())}"


def _purposes(settings: Settings, key: str) -> Iterator[str]:
    first, version = variable(settings, key), 2
    yield first
    while f"{first}_V{version}" in os.environ:
        yield f"{first}_V{version}"
        version += 1


def _keks(settings: Settings, key: str) -> dict[int, bytes]:
    base_secret = _secret(settings.base_secret)
    purposes = [_secret(name) for name in _purposes(settings, key)]
    if len({base_secret, *purposes}) != 1 + len(purposes):
        raise errors.NotConfigured(f"two of the secrets of KEK {key} are the same", hint=HINT)
    return {version: _kek(base_secret, purpose, key, version) for version, purpose in enumerate(purposes, 1)}


def _secret(name: str) -> bytes:
    text = os.environ.get(name, "")
    if not text:
        raise errors.NotConfigured(f"the environment variable {name} is not set", hint=HINT)
    if len(text) < LEAST:
        raise errors.NotConfigured(f"the secret in {name} is too short: {LEAST} characters at least", hint=HINT)
    if len(text) > MOST or not FORM.match(text):
        raise errors.NotConfigured(
            f"the secret in {name} has a wrong format",
            detail=f"At most {MOST} visible ASCII characters, without spaces or line ends.",
            hint=HINT,
        )
    return text.encode()


def _kek(base_secret: bytes, purpose: bytes, key: str, version: int) -> bytes:
    """Returns a KEK and, behind it, the text that names it in its wraps."""
    material = len(base_secret).to_bytes(4, "big") + base_secret + purpose
    info = f"pg_envelope/1 secrets {key} {version}".encode()
    return HKDF(SHA256(), KEK_BYTES + CHECK_BYTES, None, info).derive(material)


def _wrapped(versions: dict[int, bytes], item: base.Plain) -> str:
    version = max(versions)
    kek, name = versions[version][:KEK_BYTES], versions[version][KEK_BYTES:]
    return base.compose(PREFIX, version, name + seal.seal(kek, item))


def _opened(versions: dict[int, bytes], item: base.Item) -> bytes:
    version, content = base.parse(PREFIX, item.wrapped)
    held = versions.get(version, b"")
    if not held or not derivation.same(held[KEK_BYTES:], content[:CHECK_BYTES]):
        raise errors.UnwrapFailed(detail="It was wrapped with other secrets than the environment holds now.")
    return seal.unwrap(held[:KEK_BYTES], content[CHECK_BYTES:], item.context)
