"""Loads the FIPS provider, where backend.conf asks for it, before the session imports `cryptography`."""

from __future__ import annotations

from pg_envelope import fips
from pg_envelope.backend import location
from pg_envelope.backend.guard import Guard
from pg_envelope.backend.host import PinnedHost
from pg_envelope.typed import Any


def prepare(plpy: Any) -> None:
    """Ends the statement with an error when the provider cannot be loaded. So does each later one of the session."""
    Guard(PinnedHost(plpy)).plain(_prepare)()


def _prepare() -> None:
    config = location.fips_config()
    if config is not None:
        fips.activate(config)
