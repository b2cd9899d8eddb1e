"""Tells whether a base table has the name of its view now."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.host import Host

OPEN = "SELECT base::regclass::text AS name FROM envelope_private.exchange"


def refuse_open(host: Host, what: str) -> None:
    """Raises NotConfigured for an act of administration while names are exchanged."""
    row = host.row(OPEN)
    if row is not None:
        raise errors.NotConfigured(
            f"{what}() cannot run now: {row['name']} has the name of its view",
            hint="SELECT envelope.end_ddl() first.",
        )
