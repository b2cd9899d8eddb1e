"""Loads the FIPS provider, where broker.toml asks for it, before the broker imports `cryptography`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pg_envelope import errors, fips
from pg_envelope.broker.settings.config import BrokerSettings, load


def prepare(config: Path) -> None:
    """Reports nothing: the start and the check read the file again, and tell what is wrong."""
    with suppress(errors.EnvelopeError):
        require(load(config).broker)


def require(settings: BrokerSettings) -> None:
    """Raises NotConfigured when the provider is asked for and is not active."""
    if settings.fips:
        fips.activate(settings.fips_config)
