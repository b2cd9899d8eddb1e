"""Provider for HashiCorp Vault and OpenBao: KEKs in the transit engine. Only the vault* modules know hvac."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import hvac
from hvac import exceptions

from pg_envelope import derivation, errors
from pg_envelope.broker.kms.providers import base
from pg_envelope.broker.kms.providers.vault_errors import Json, data, foreign, number, text
from pg_envelope.broker.kms.providers.vault_kv import KvStore
from pg_envelope.broker.kms.providers.vault_link import VaultLink
from pg_envelope.broker.kms.providers.vault_login import Report
from pg_envelope.broker.settings.kms import VaultSettings as Settings

BATCH = 200
KEY_TYPE = "aes256-gcm96"


class Vault:
    """One server, one login."""

    batch = BATCH
    stores = frozenset({"vault", "catalog"})

    def __init__(self, settings: Settings, report: Report) -> None:
        self._settings = settings
        self._mount = settings.transit_mount
        self._link = VaultLink(settings, report)
        self._call = self._link.call
        self._kv = KvStore(self._call, settings.kv_mount, settings.kv_path)

    @property
    def store(self) -> KvStore:
        return self._kv

    def describe(self, key: str) -> base.Description:
        found = data(self._call(lambda client: _read_key(client, key, self._mount)))
        if found.get("type") != KEY_TYPE or found.get("derived") is not True:
            raise errors.KekUnknown(
                "the transit key is not fit to be a KEK",
                detail=f"It must be of type {KEY_TYPE} and derived, or a wrap would not be bound to its database.",
                hint="Make another one: bao write transit/keys/NAME type=aes256-gcm96 derived=true",
            )
        version, deletable = number(found, "latest_version"), found.get("deletion_allowed") is True
        oldest = number(found, "min_decryption_version")
        return base.Description(version, tuple(_warnings(found)), deletable, oldest, _made_at(found, version))

    def generate(self, key: str, context: str) -> str:
        answer = self._call(
            lambda client: client.secrets.transit.generate_data_key(
                key, "wrapped", context=_base64(context), bits=8 * derivation.DEK_BYTES, mount_point=self._mount
            )
        )
        return text(data(answer), "ciphertext")

    def wrap(self, key: str, items: Sequence[base.Plain]) -> list[str | errors.EnvelopeError]:
        batch = [{"plaintext": _base64_bytes(item.dek), "context": _base64(item.context)} for item in items]

        def ask(client: hvac.Client) -> Any:
            return client.secrets.transit.encrypt_data(key, "", batch_input=batch, mount_point=self._mount)

        return [_wrapped(result) for result in self._results(ask, len(items))]

    def unwrap(self, key: str, items: Sequence[base.Item]) -> list[bytes | errors.EnvelopeError]:
        def ask(client: hvac.Client) -> Any:
            return client.secrets.transit.decrypt_data(key, batch_input=_batch(items), mount_point=self._mount)

        return [_opened(result) for result in self._results(ask, len(items))]

    def rewrap(self, key: str, items: Sequence[base.Item]) -> list[str | errors.EnvelopeError]:
        def ask(client: hvac.Client) -> Any:
            return client.secrets.transit.rewrap_data(key, "", batch_input=_batch(items), mount_point=self._mount)

        return [_wrapped(result) for result in self._results(ask, len(items))]

    def rotate(self, key: str) -> int:
        self._call(lambda client: client.secrets.transit.rotate_key(key, mount_point=self._mount))
        return self.describe(key).version

    def token_seconds(self) -> float | None:
        return self._link.token_seconds()

    def tls(self) -> str | None:
        return self._link.tls

    def close(self) -> None:
        self._link.close()

    def _results(self, ask: Callable[[hvac.Client], Any], count: int) -> list[Json]:
        results = data(self._call(lambda client: _with_item_errors(client, ask))).get("batch_results")
        if not isinstance(results, list) or len(results) != count or not all(isinstance(one, dict) for one in results):
            raise foreign()
        return results


def _read_key(client: hvac.Client, key: str, mount: str) -> object:
    try:
        return client.secrets.transit.read_key(key, mount_point=mount)
    except exceptions.InvalidPath as error:
        if isinstance(error.json, dict) and error.json.get("errors") == []:
            raise errors.KekUnknown("the KMS has no such key", hint="See the key of [kek.NAME].") from None
        raise


def _with_item_errors(client: hvac.Client, ask: Callable[[hvac.Client], Any]) -> Any:
    """Takes the answer to a batch with one bad item: HTTP 400 and all results."""
    try:
        return ask(client)
    except exceptions.InvalidRequest as error:
        answer = error.json if isinstance(error.json, dict) else {}
        if isinstance(answer.get("data"), dict) and "batch_results" in answer["data"]:
            return answer
        raise


def _batch(items: Sequence[base.Item]) -> list[dict[str, str]]:
    return [{"ciphertext": item.wrapped, "context": _base64(item.context)} for item in items]


def _opened(result: Json) -> bytes | errors.EnvelopeError:
    try:
        dek = base64.b64decode(str(result.get("plaintext") or ""), validate=True)
    except ValueError:
        dek = b""
    return dek if len(dek) == derivation.DEK_BYTES and not result.get("error") else errors.UnwrapFailed()


def _wrapped(result: Json) -> str | errors.EnvelopeError:
    wrapped = result.get("ciphertext")
    return wrapped if isinstance(wrapped, str) and not result.get("error") else errors.UnwrapFailed()


def _warnings(key: Json) -> list[str]:
    return [
        text
        for option, text in (
            ("deletion_allowed", "the transit key may be deleted (deletion_allowed)"),
            ("exportable", "the transit key may be exported (exportable)"),
            ("allow_plaintext_backup", "the transit key may be backed up in the clear (allow_plaintext_backup)"),
        )
        if key.get(option) is True
    ]


def _made_at(key: Json, version: int) -> float | None:
    times = key.get("keys")
    made = times.get(str(version)) if isinstance(times, dict) else None
    return float(made) if type(made) is int and made > 0 else None


def _base64(text: str) -> str:
    return _base64_bytes(text.encode())


def _base64_bytes(content: bytes) -> str:
    return base64.b64encode(content).decode()
