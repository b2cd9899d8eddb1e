"""Carries out `pg-envelope broker --check`, before the broker's start, or when the broker does not work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar
from uuid import UUID

from pg_envelope import derivation, errors
from pg_envelope.broker import startup
from pg_envelope.broker.door import tls
from pg_envelope.broker.kms.calls import within
from pg_envelope.broker.kms.providers import keyring_file, secrets
from pg_envelope.broker.kms.providers.base import Item, Provider
from pg_envelope.broker.kms.providers.make import make_provider
from pg_envelope.broker.prepare import require
from pg_envelope.broker.requests import keys_backup
from pg_envelope.broker.server import uids
from pg_envelope.broker.settings.config import BrokerSettings, Config, Kek, load
from pg_envelope.broker.settings.door import DoorSettings
from pg_envelope.broker.system import files

NO_DATABASE = UUID(int=0)
T = TypeVar("T")
State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """The result of one check. `detail` and `hint` are for a person and hold no secret."""

    name: str
    state: State
    detail: str
    hint: str | None = None


def check(config: Path) -> list[Finding]:
    """Checks the configuration, the files, each KMS and each KEK. It asks the KMS, and changes nothing there."""
    try:
        settings = load(config)
    except errors.EnvelopeError as error:
        return [_failed("configuration", error)]
    return [Finding("configuration", "ok", str(config)), *_machine(settings), *_keks(settings)]


def _machine(config: Config) -> Iterator[Finding]:
    broker = config.broker
    yield Finding("user", "ok", f"checked as uid {os.geteuid()}, which must be the broker's")
    if broker.fips:
        yield _tried("FIPS provider", broker.fips_config, lambda: require(broker))
    yield from _places(broker, config.door)
    yield _tried("allowed users", ", ".join(map(str, broker.allowed_users)), lambda: uids(broker.allowed_users))
    yield _tried("audit log", broker.audit_log, lambda: startup.rehearse_audit(broker))
    if broker.break_glass_public_key_file:
        path = Path(broker.break_glass_public_key_file)
        yield _tried("break-glass public key", str(path), lambda: keys_backup.read_public_key(path))
    for path in startup.secret_files(config):
        yield _tried("secret file", str(path), lambda path=path: files.read_private(path))  # type: ignore[misc]
    if (door := config.door) is not None:
        yield _tried("door's certificates", str(door.certificate_file), lambda: tls.context(door))
    for path in startup.keyrings(config):
        yield _hinted("keyring", str(path), lambda path=path: keyring_file.check_writable(path))  # type: ignore[misc]
    for held, key in startup.secret_keks(config):
        names = ", ".join(secrets.names(held, key))
        yield _tried("secrets in the environment", names, lambda held=held, key=key: secrets.check(held, key))  # type: ignore[misc]


def _places(broker: BrokerSettings, door: DoorSettings | None) -> Iterator[Finding]:
    """Tries the places that only one broker can hold. While a broker runs it holds them, so they cannot be tried."""
    directory = broker.socket.parent
    yield _tried("socket directory", str(directory), lambda: files.refuse_shared_directory(directory))
    if startup.running(broker):
        yield Finding("broker", "ok", f"it runs, and listens on {broker.socket}; a second one would be refused")
        return
    yield _tried("epoch", str(broker.epoch), lambda: startup.rehearse_epoch(broker))
    yield _tried("socket", str(broker.socket), lambda: startup.rehearse_socket(broker))
    yield _tried("ledger of erasures", str(broker.erasures), lambda: startup.rehearse_ledger(broker))
    yield _hinted("ledger of reads", str(broker.reads_path), lambda: startup.rehearse_reads(broker))
    if broker.metrics:
        yield _tried("metrics", broker.metrics, lambda: startup.rehearse_metrics(broker))
    if door is not None:
        yield _tried("door's address", door.listen, lambda: startup.rehearse_door(door))


def _keks(config: Config) -> Iterator[Finding]:
    for name, settings in config.kms.items():
        try:
            provider = make_provider(settings, _say_nothing)
        except errors.EnvelopeError as error:
            yield _failed(f"kms {name}", error)
            continue
        for kek, held in config.kek.items():
            if held.kms == name:
                yield from _kek(config, provider, kek, held)
        provider.close()


def _say_nothing(_: errors.EnvelopeError) -> None:
    """Does not report a refused login here, because it is a finding already."""


def _kek(config: Config, provider: Provider, name: str, kek: Kek) -> Iterator[Finding]:
    try:
        found = _bounded(config, kek, lambda: provider.describe(kek.key))
    except errors.EnvelopeError as error:
        yield _failed(f"kek {name}", error)
        return
    yield Finding(f"kek {name}", "ok", f"key {kek.key} of kms {kek.kms}, version {found.version}")
    for warning in found.warnings:
        yield Finding(f"kek {name}", "warning", warning, "See docs/providers.md.")
    yield _tried(f"kek {name} wraps and unwraps", "ok", lambda: _round_trip(config, provider, kek))
    if provider.store is not None:
        yield _tried(f"kek {name} key store", "readable", lambda: _bounded(config, kek, lambda: _store(provider)))


def _bounded(config: Config, kek: Kek, ask: Callable[[], T]) -> T:
    with within(config.kms[kek.kms].timeout_ms / 1000) as call:
        return call.run(ask)


def _round_trip(config: Config, provider: Provider, kek: Kek) -> None:
    # No key ever has DEK id 0, so this wrap is of no use to anybody.
    context = derivation.context(config.broker.environment, NO_DATABASE, 0)
    wrapped = _bounded(config, kek, lambda: provider.generate(kek.key, context))
    opened = _bounded(config, kek, lambda: provider.unwrap(kek.key, [Item(context, wrapped)]))[0]
    if isinstance(opened, errors.EnvelopeError):
        raise opened


def _store(provider: Provider) -> None:
    """Reads the entry of a database that cannot exist. The answer that it is not there shows that the store may be
    read.
    """
    try:
        if provider.store is not None:
            provider.store.read(f"{NO_DATABASE}/0")
    except errors.KeyNotFound:
        return


def _tried(name: str, detail: str, attempt: Callable[[], object]) -> Finding:
    try:
        attempt()
    except errors.EnvelopeError as error:
        return _failed(name, error)
    return Finding(name, "ok", detail)


def _hinted(name: str, detail: str, attempt: Callable[[], object]) -> Finding:
    """Returns what `_tried` returns, for a problem that does not keep the broker from starting."""
    return replace(found, state="warning") if (found := _tried(name, detail, attempt)).state == "failed" else found


def _failed(name: str, error: errors.EnvelopeError) -> Finding:
    return Finding(name, "failed", error.said, error.hint)
