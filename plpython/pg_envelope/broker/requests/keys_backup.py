"""Seals DEKs for the break-glass key, and takes them back under another KEK: FORMAT.md sections 4 and 6."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from pg_envelope import derivation, errors, keys_backup, wire
from pg_envelope.broker.keys.cache import CacheKey, OpenedDek
from pg_envelope.broker.keys.deks import Answer, OpenDeks, check_wrapped
from pg_envelope.broker.requests.messages import KeysBackupRequest, KeysReturnRequest
from pg_envelope.broker.requests.moving import WrapPlace
from pg_envelope.broker.requests.objects import DekRef
from pg_envelope.broker.requests.outcomes import Outcomes
from pg_envelope.broker.settings.config import BrokerSettings
from pg_envelope.broker.system import files

PUBLIC_FILE = 0o644
BETWEEN_PAUSES = 50
ONE_TIME_SECONDS = 900.0
STORE = "catalog"


def read_public_key(path: Path) -> X25519PublicKey:
    """Raises NotConfigured. Only root and the broker may write the file: whoever writes it gets every DEK."""
    try:
        return keys_backup.public_key(files.read_private(path, PUBLIC_FILE).decode())
    except (errors.BadInput, UnicodeDecodeError):
        raise errors.NotConfigured(
            f"{path} holds no public break-glass key", hint="pg-envelope keys-backup init"
        ) from None


class BackupSealer:
    """Answers `keys_backup`. It seals nothing without a public key in the configuration."""

    def __init__(self, settings: BrokerSettings, deks: OpenDeks) -> None:
        self._environment, self._deks = settings.environment, deks
        path = settings.break_glass_public_key_file
        self._public = read_public_key(Path(path)) if path else None

    async def run(self, wanted: KeysBackupRequest, until: float) -> wire.Message:
        """Also takes DEKs of the cache: while the KMS is lost, the cache may be the last place that has them."""
        if self._public is None:
            raise errors.NotPermitted(
                "this broker gives no DEKs into a backup",
                hint="Run pg-envelope keys-backup init, set break_glass_public_key_file in [broker], and restart it.",
            )
        for dek in wanted.deks:
            check_wrapped(dek.store, dek.wrapped)
        wraps = [
            self._deks.key(wanted.database_uuid, dek.dek_id, dek.kek, dek.store, dek.wrapped) for dek in wanted.deks
        ]
        place = keys_backup.SealPlace(keys_backup.BACKUP, self._environment, wanted.database_uuid)
        found: list[wire.Message] = []
        for dek, answer in zip(wanted.deks, await self._deks.resolve(wraps, until), strict=True):
            found.append(_sealed(self._public, place, dek, answer))
            if len(found) % BETWEEN_PAUSES == 0:
                await asyncio.sleep(0)
        return {"public_key": keys_backup.public_text(self._public), "environment": self._environment, "deks": found}


def _sealed(public: X25519PublicKey, place: keys_backup.SealPlace, dek: DekRef, answer: Answer) -> wire.Message:
    opened = answer.dek
    if isinstance(opened, OpenedDek) and derivation.same(opened.fingerprint, dek.fingerprint):
        return {"dek_id": dek.dek_id, "sealed": keys_backup.seal(public, place, dek.dek_id, opened.dek)}
    error = errors.UnwrapFailed() if isinstance(opened, OpenedDek) else opened
    return {"dek_id": dek.dek_id, "error": wire.error_body(error)}


class BackupReturner:
    """Answers `keys_return`: DEKs that are sealed for a key of this process only are wrapped by a KEK of today."""

    def __init__(self, settings: BrokerSettings, deks: OpenDeks, clock: Callable[[], float]) -> None:
        self._settings, self._deks, self._clock = settings, deks, clock
        self._key: tuple[X25519PrivateKey, float] | None = None

    async def run(self, wanted: KeysReturnRequest, until: float) -> wire.Message:
        if not self._settings.allow_keys_return:
            raise errors.NotPermitted(
                "this broker takes no DEKs out of a backup",
                hint="Set allow_keys_return = true under [broker] for as long as the return takes, and restart it.",
            )
        self._deks.kek(wanted.kek)
        key = self._one_time_key(renew=not wanted.deks)
        public = keys_backup.public_text(key.public_key())
        if wanted.deks and wanted.public_key != public:
            raise errors.BadInput("the broker has another one-time key now", hint="Begin the return again.")
        returning = _Returning(self._deks, wanted, key, self._settings.environment, until)
        return {
            "public_key": public,
            "environment": self._settings.environment,
            "deks": await returning.run() if wanted.deks else [],
        }

    def _one_time_key(self, *, renew: bool) -> X25519PrivateKey:
        now = self._clock()
        if self._key is None or (renew and now - self._key[1] > ONE_TIME_SECONDS):
            self._key = X25519PrivateKey.generate(), now
        return self._key[0]


class _Returning(Outcomes):
    """Handles one request. A DEK that fails does not stop the others."""

    def __init__(
        self, deks: OpenDeks, wanted: KeysReturnRequest, key: X25519PrivateKey, environment: str, until: float
    ) -> None:
        super().__init__()
        self._to, self._key = WrapPlace(deks, wanted.kek, STORE, until), key
        self._place = keys_backup.SealPlace(keys_backup.RETURN, environment, wanted.database_uuid)
        self._wanted = {deks.key(wanted.database_uuid, dek.dek_id, wanted.kek, STORE, None): dek for dek in wanted.deks}

    async def run(self) -> list[wire.Message]:
        await self._to.kms.ready(self._to.name, self._to.until)
        opened = self._checked({key: self._opened(key) for key in self._wanted})
        new = self._sorted_out(await self._to.wrapped(opened))
        self._checked(await self._to.opened(new))
        return [self._answer(key, new.get(key), to_catalog=True) for key in self._wanted]

    def _opened(self, key: CacheKey) -> bytes | errors.EnvelopeError:
        try:
            return keys_backup.unseal(self._key, self._place, key.dek_id, self._wanted[key].sealed)
        except errors.UnwrapFailed as error:
            return error.with_traceback(None)

    def _checked(self, found: dict[CacheKey, bytes | errors.EnvelopeError]) -> dict[CacheKey, bytes]:
        """Returns those DEKs that are the ones which the catalog means."""
        opened = self._sorted_out(found)
        for key, dek in opened.items():
            if len(dek) != derivation.DEK_BYTES or not self._fits(key, dek):
                self._failed[key] = errors.UnwrapFailed()
        return {key: dek for key, dek in opened.items() if key not in self._failed}

    def _fits(self, key: CacheKey, dek: bytes) -> bool:
        return derivation.same(derivation.fingerprint(dek, key.dek_id), self._wanted[key].fingerprint)
