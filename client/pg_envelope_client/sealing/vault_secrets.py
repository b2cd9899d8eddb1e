"""Secrets that live in the KV engine (version 2) of Vault or OpenBao, in the place of PostgreSQL."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

from pg_envelope import errors
from pg_envelope.broker.kms.providers.vault_errors import Json, data
from pg_envelope.broker.kms.providers.vault_link import VaultLink
from pg_envelope.broker.settings.kms import AppRole, TokenFile, VaultSettings
from pg_envelope_client.sealing import vault_kv
from pg_envelope_client.sealing.secret_source import SecretVersion

MOUNT, TIMEOUT_MS = "secret", 5000
# The member of a KV secret that holds the value, where the name says none.
MEMBER = "value"
PLACE = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*\Z")
PLACE_FORM = "It is a path without '/' at its ends: letters, digits, '.', '_', '-' and '/'."
NAME_FORM = "For example: stripe, shop/stripe, or shop/database#password for one member of a KV secret."
LOGIN_HINT = "VaultSecrets(address, token_file=...), or role_id_file=... and secret_id_file=..."


class VaultSecrets:
    """A source of secrets for `Secrets`: one path of one KV mount. Safe to share between threads and after a fork.

    The login is a file with a token, such as Vault Agent writes, or an AppRole. It is renewed, and read again when it
    ends. The name `shop/stripe` is the member `value` of the KV secret `path`/shop/stripe; `shop/database#password` is
    the member `password`. Vault tells nobody of a revocation, so only the end of `cache_seconds` empties the cache.
    Raises KmsDenied for a login or a policy that does not allow it, KmsUnavailable, KmsSealed, KeyNotFound,
    KeyDestroyed, and Unsupported for a mount of KV version 1.
    """

    generation = 0

    def __init__(
        self,
        address: str,
        *,
        token_file: str | Path | None = None,
        role_id_file: str | Path | None = None,
        secret_id_file: str | Path | None = None,
        ca_file: str | Path | None = None,
        namespace: str = "",
        mount: str = MOUNT,
        path: str = "",
        approle_mount: str = "approle",
        timeout_ms: int = TIMEOUT_MS,
    ) -> None:
        """Raises BadInput for an address without TLS, another form of mount or path, and a login that is not whole."""
        self._mount, self._path = _place(mount), _place(path) if path else ""
        login = _login(token_file, role_id_file, secret_id_file, _place(approle_mount))
        namespace = _place(namespace.strip("/")) if namespace else ""
        self._settings = _settings(address, login, str(ca_file or ""), namespace, timeout_ms)
        self._open()

    def names(self, prefix: str = "") -> list[str]:
        """Returns the names of the KV secrets below the path that begin so. The policy must allow `list`."""
        folder, _, _ = prefix.rpartition("/")
        found = self._below(f"{_name(folder)}/" if folder else "")
        return sorted(name for name in found if name.startswith(prefix))

    def versions(self, name: str, grace_seconds: float) -> list[SecretVersion]:
        """Returns the newest version, and the one before where it may still be valid. An older version never stands in
        for a newest one that was deleted or destroyed.
        """
        path, member = self._named(name)
        found = self._read(path)
        newest = SecretVersion(found.number, vault_kv.content(found.members, member), self._since(found))
        if found.number < 2 or monotonic() - newest.since >= grace_seconds:
            return [newest]
        return [newest, *self._before(path, member, found.number - 1)]

    def store(self, name: str, value: str | bytes) -> int:
        """Stores the next version, with the other members as they are. The policy must allow `read`, `create` and
        `update`. Raises Conflict when another version came first, BadInput for bytes that are no text.
        """
        path, member = self._named(name)
        text = vault_kv.text(value)
        # A mount of version 1 would take the request, and store something else.
        self._require_version_2()
        now = self._newest(path)
        members = {**now.members, member: text}
        stored: int = self._call(lambda client: vault_kv.write(client, self._mount, path, members, now.number))
        return stored

    def about(self, name: str) -> Json:
        """Returns the newest version's number and time: `version`, `stored_at`. The policy must allow `read` of the
        metadata.
        """
        path, _ = self._named(name)
        found: Json = self._call(lambda client: vault_kv.about(client, self._mount, path))
        return found

    def close(self) -> None:
        self._link.close()

    def _open(self) -> None:
        self._owner, self._checked = os.getpid(), False
        self._link = VaultLink(self._settings, report=lambda _: None)

    def _read(self, path: str) -> vault_kv.KvVersion:
        """Returns the newest version. Raises KeyNotFound, KeyDestroyed."""
        if not self._checked:
            self._require_version_2()
        found = self._newest(path)
        if found.state == "absent":
            # A mount that was moved or made anew must not look like a secret that is not there.
            self._require_version_2()
        found.require()
        return found

    def _before(self, path: str, member: str, version: int) -> list[SecretVersion]:
        """Returns an earlier version; nothing where it was taken away, or holds no such secret."""
        found = self._call(lambda client: vault_kv.read(client, self._mount, path, version))
        try:
            return [SecretVersion(version, vault_kv.content(found.members, member), self._since(found))]
        except errors.BadInput:
            return []

    def _newest(self, path: str) -> vault_kv.KvVersion:
        found: vault_kv.KvVersion = self._call(lambda client: vault_kv.read(client, self._mount, path, None))
        return found

    def _since(self, found: vault_kv.KvVersion) -> float:
        return monotonic() - vault_kv.age(found.stored_at, self._link.date)

    def _below(self, folder: str) -> list[str]:
        found: list[str] = []
        for key in self._listed(folder):
            found += self._below(folder + key) if key.endswith("/") else [folder + key]
        return found

    def _listed(self, folder: str) -> list[str]:
        if not self._checked:
            self._require_version_2()
        path = "/".join(filter(None, (self._path, folder)))
        found: list[str] | None = self._call(lambda client: vault_kv.listed(client, self._mount, path))
        if found is None:
            self._require_version_2()
        return found or []

    def _require_version_2(self) -> None:
        self._checked = False
        with vault_kv.in_own_words():
            found = data(self._link_now().call(lambda client: vault_kv.mount(client, self._mount)))
        if found.get("path") != f"{self._mount}/":
            raise errors.KmsInvalid("this is a path in a mount, and no mount", hint="Give the folder as path, apart.")
        if found.get("type") not in ("kv", "generic"):
            raise errors.Unsupported("the mount is no KV engine", hint="Where was it moved to? See: bao secrets list")
        options = found.get("options")
        if not isinstance(options, dict) or options.get("version") != "2":
            raise errors.Unsupported(
                "the mount is a KV engine of version 1, which keeps no versions",
                hint="bao kv enable-versioning MOUNT makes it version 2. Programs that use it must know of that.",
            )
        self._checked = True

    def _call(self, function: Callable[[Any], Any]) -> Any:
        try:
            with vault_kv.in_own_words():
                return self._link_now().call(function)
        except errors.KmsInvalid:
            # Without its mount the server takes no request as valid. This names the cause.
            self._require_version_2()
            raise

    def _link_now(self) -> VaultLink:
        """Two processes must not write into one connection."""
        if self._owner != os.getpid():
            self._open()
        return self._link

    def _named(self, name: str) -> tuple[str, str]:
        """Returns the path in the mount, and the member. Raises BadInput."""
        path, separator, member = name.partition("#")
        if separator and not member:
            raise errors.BadInput("this is no name of a secret in Vault", hint=NAME_FORM)
        return "/".join(filter(None, (self._path, _name(path)))), member or MEMBER


def _name(text: str) -> str:
    """Raises BadInput for a name that would lead out of the path: a URL's `..` goes one folder up."""
    if not text.isprintable() or any(part in ("", ".", "..") for part in text.split("/")):
        raise errors.BadInput("this is no name of a secret in Vault", hint=NAME_FORM)
    return text


def _place(text: str) -> str:
    if not PLACE.match(text) or any(part in (".", "..") for part in text.split("/")):
        raise errors.BadInput("this is no mount, path or namespace in Vault", hint=PLACE_FORM)
    return text


def _login(
    token_file: str | Path | None, role_id_file: str | Path | None, secret_id_file: str | Path | None, mount: str
) -> AppRole | TokenFile:
    if token_file is not None and role_id_file is None and secret_id_file is None:
        return TokenFile(Path(token_file))
    if token_file is None and role_id_file is not None and secret_id_file is not None:
        return AppRole(Path(role_id_file), Path(secret_id_file), mount)
    raise errors.BadInput("Vault needs one login: a token, or an AppRole", hint=LOGIN_HINT)


def _settings(address: str, login: AppRole | TokenFile, ca_file: str, namespace: str, timeout_ms: int) -> VaultSettings:
    try:
        return VaultSettings(address, login, ca_file=ca_file, namespace=namespace, timeout_ms=timeout_ms)
    except errors.NotConfigured as error:
        cause = error.message.removeprefix("broker configuration: ").removeprefix("kms ")
        raise errors.BadInput("this Vault cannot be used", detail=cause) from None
