"""Refuses callers of a routine that runs with its caller's rights and is for superusers only."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.host import Host

SUPERUSER = "SELECT rolsuper AS is_so FROM pg_catalog.pg_roles WHERE rolname = current_user"


def refuse_others(host: Host, what: str, why: str) -> None:
    """Raises NotPermitted, with `why` as its hint, unless the current role is a superuser."""
    caller = host.row(SUPERUSER)
    if not (caller and caller["is_so"]):
        raise errors.NotPermitted(f"{what}() needs a superuser", hint=why)
