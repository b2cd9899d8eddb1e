"""Tells superusers from others, for routines that run with their caller's rights."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.host import Host

SUPERUSER = "SELECT rolsuper AS is_so FROM pg_catalog.pg_roles WHERE rolname = current_user"


def is_superuser(host: Host) -> bool:
    caller = host.row(SUPERUSER)
    return bool(caller and caller["is_so"])


def refuse_others(host: Host, what: str, why: str) -> None:
    """Raises NotPermitted, with `why` as its hint, unless the current role is a superuser."""
    if not is_superuser(host):
        raise errors.NotPermitted(f"{what}() needs a superuser", hint=why)
