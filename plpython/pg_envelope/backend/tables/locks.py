"""Locks a protected table in the order in which readers do: first the view, then its base table.

Each try waits for a second at most, because every new reader queues up behind a waiting ACCESS EXCLUSIVE lock.
"""

from __future__ import annotations

import time
from typing import Any

from pg_envelope import errors
from pg_envelope.backend.host import Host
from pg_envelope.backend.server import settings_kept

TRIES = 30
TRY_MS = 1000
# For a table that must not stop: nobody waits longer behind such a try. All tries together take some minutes.
BRIEF_TRIES = 600
BRIEF_MS = 100
PAUSE_SECONDS = 0.2
LOCK_NOT_AVAILABLE, DEADLOCK = "55P03", "40P01"
OWN_LIMIT = "SELECT setting::bigint AS ms FROM pg_catalog.pg_settings WHERE name = 'lock_timeout'"
LIMIT = "SET LOCAL lock_timeout = '{}ms'"


class Locked(errors.EnvelopeError):
    sqlstate = LOCK_NOT_AVAILABLE
    text = "the table is in use"
    default_hint = "pg_locks and pg_stat_activity show who holds it. Call again, or set lock_timeout to wait longer."


def exclusive(host: Host, *relations: str) -> None:
    """Waits for ACCESS EXCLUSIVE locks. Raises Locked."""
    lock(host, *relations, mode="ACCESS EXCLUSIVE")


def briefly(host: Host, *relations: str) -> None:
    """Waits for the same locks in short tries. Raises Locked."""
    lock(host, *relations, mode="ACCESS EXCLUSIVE", tries=BRIEF_TRIES, try_ms=BRIEF_MS)


def lock(host: Host, *relations: str, mode: str, tries: int = TRIES, try_ms: int = TRY_MS) -> None:
    """Waits for locks in this order, all or none at each try. Raises Locked.

    Where the session has a lock_timeout of its own, there is one try of that length.
    """
    row = host.row(OWN_LIMIT)
    own = int(row["ms"]) if row else 0
    for _ in range(1 if own else tries):
        if _tried(host, relations, own or try_ms, mode):
            return
        time.sleep(PAUSE_SECONDS)
        host.interrupts()
    raise Locked(detail=", ".join(relations))


def _tried(host: Host, relations: tuple[str, ...], limit_ms: int, mode: str) -> bool:
    try:
        # Afterwards the session's own limit is as before.
        with host.subtransaction(), settings_kept():
            host.setting(LIMIT.format(limit_ms))
            for relation in relations:
                host.run(f"LOCK TABLE {relation} IN {mode} MODE")
    except Exception as error:
        if _state(error) in (LOCK_NOT_AVAILABLE, DEADLOCK):
            return False
        raise
    return True


def _state(error: Any) -> str | None:
    state: str | None = getattr(error, "sqlstate", None)
    return state
