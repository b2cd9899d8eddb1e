"""Tells in envelope.status() where the FIPS provider is active: session, broker, Python's OpenSSL."""

from __future__ import annotations

from pg_envelope import fips
from pg_envelope.backend.host import Row

HINT = "Set fips = true in backend.conf and in broker.toml, and restart the broker: docs/fips.md."
WORDS = {True: "active", False: "not active", None: "unknown"}


def check(broker: bool | None) -> Row:
    """Returns the row. `broker` is what the broker says of itself. One side without the provider is a warning."""
    here = fips.active()
    python = "in FIPS mode" if fips.python_active() else "not in FIPS mode"
    return {
        "check_name": "fips",
        "state": "ok" if here == bool(broker) else "warning",
        "detail": f"sessions: {WORDS[here]}; broker: {WORDS[broker]}; OpenSSL of Python: {python}",
        "hint": None if here == bool(broker) else HINT,
    }
