"""Tells the broker's state from what it knows already. It never waits for a KMS."""

from __future__ import annotations

from collections.abc import Mapping

from pg_envelope import errors, fips, wire
from pg_envelope._version import VERSION
from pg_envelope.broker.keys.deks import OpenDeks
from pg_envelope.broker.kms.kms import Kms
from pg_envelope.broker.kms.providers.base import Description
from pg_envelope.broker.requests.users import KekUsers
from pg_envelope.broker.settings.config import Config


def report(config: Config, deks: OpenDeks, kms: Mapping[str, Kms], epoch: int, users: KekUsers) -> wire.Message:
    """Returns the response to `status`."""
    return {
        "version": VERSION,
        "protocol": wire.PROTOCOL,
        "environment": config.broker.environment,
        "epoch": epoch,
        "fips": fips.active(),
        "keks": {name: {**_kek(config, deks, kms, name), "databases": users.of(name)} for name in config.kek},
    }


def _kek(config: Config, deks: OpenDeks, kms: Mapping[str, Kms], name: str) -> wire.Message:
    held = kms[config.kek[name].kms]
    state, detail, hint = state_of(deks, held, name, config.kek[name].key)
    described = held.keks.get(config.kek[name].key)
    return {
        "provider": config.kms[held.name].provider,
        "state": state,
        "detail": detail,
        "hint": hint,
        "deletable": described.deletable if isinstance(described, Description) else None,
        "version": described.version if isinstance(described, Description) else None,
        "oldest": described.oldest if isinstance(described, Description) else None,
        "made_at": described.made_at if isinstance(described, Description) else None,
        "tls": held.provider.tls(),
        "store": "vault" if "vault" in held.provider.stores else "catalog",
    }


def state_of(deks: OpenDeks, kms: Kms, name: str, key: str) -> tuple[str, str | None, str | None]:
    """Returns (ok, degraded or failed; detail; hint) of a KEK."""
    known = kms.keks.get(key)
    problem = kms.down or (known if isinstance(known, errors.EnvelopeError) else None)
    if problem is not None:
        return _problem(problem, deks.grace_left(name) if kms.down else 0.0)
    if known is None:
        return "degraded", "not asked yet", None
    if isinstance(known, Description) and known.warnings:
        return "degraded", "; ".join(known.warnings), "See docs/providers.md."
    return "ok", None, None


def _problem(error: errors.EnvelopeError, grace: float) -> tuple[str, str, str | None]:
    if grace <= 0:
        return "failed", error.said, error.hint
    return "degraded", f"{error.said}; cached keys stay usable for up to {grace:.0f} s", error.hint
