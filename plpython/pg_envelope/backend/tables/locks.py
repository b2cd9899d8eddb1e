"""Locks a protected table in the order in which readers do: first the view, then its base table.

Each try waits for a second at most, because every new reader queues up behind a waiting ACCESS EXCLUSIVE lock.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from pg_envelope import errors
from pg_envelope.backend.host import Host
from pg_envelope.backend.server import settings_kept
from pg_envelope.typed import Any, NamedTuple

PAUSE_SECONDS = 0.2
LOCK_NOT_AVAILABLE, DEADLOCK = "55P03", "40P01"
# PostgreSQL has no SQLSTATE of its own for this. The message is the same in all languages.
CHANGED_MEANWHILE = "tuple concurrently updated"
OWN_LIMIT = "SELECT setting::bigint AS ms FROM pg_catalog.pg_settings WHERE name = 'lock_timeout'"
EXCLUSIVE = "ACCESS EXCLUSIVE"
LIMIT = "SET LOCAL lock_timeout = '{}ms'"


class Tries(NamedTuple):
    """The number of tries, and the milliseconds that each waits."""

    times: int
    ms: int


PATIENT = Tries(30, 1000)
# For a table that must not stop: nobody waits longer behind such a try. All tries together take some minutes.
BRIEF = Tries(600, 100)


class Locked(errors.EnvelopeError):
    sqlstate = LOCK_NOT_AVAILABLE
    text = "the table is in use"
    default_hint = "pg_locks and pg_stat_activity show who holds it. Call again, or set lock_timeout to wait longer."


def exclusive(host: Host, *relations: str) -> None:
    """Waits for ACCESS EXCLUSIVE locks. Raises Locked."""
    lock(host, *relations, mode=EXCLUSIVE)


def briefly(host: Host, *relations: str) -> None:
    """Waits for the same locks in short tries. Raises Locked."""
    lock(host, *relations, mode=EXCLUSIVE, tries=BRIEF)


def lock(host: Host, *relations: str, mode: str, tries: Tries = PATIENT) -> None:
    """Waits for locks in this order. Raises Locked."""
    held(host, {relation: statement(relation, mode) for relation in relations}, tries)


def statement(relation: str, mode: str = EXCLUSIVE) -> str:
    return f"LOCK TABLE {relation} IN {mode} MODE"


def held(host: Host, statements: Mapping[str, str], tries: Tries) -> None:
    """Waits for the locks that statements take, by what they lock: in this order, all or none at each try.

    Where the session has a lock_timeout of its own, there is one try of that length. Raises Locked.
    """
    row = host.row(OWN_LIMIT)
    own = int(row["ms"]) if row else 0
    for _ in range(1 if own else tries.times):
        if _tried(host, statements.values(), own or tries.ms):
            return
        time.sleep(PAUSE_SECONDS)
        host.interrupts()
    raise Locked(detail=", ".join(statements))


def _tried(host: Host, statements: Iterable[str], limit_ms: int) -> bool:
    try:
        # Afterwards the session's own limit is as before.
        with host.subtransaction(), settings_kept():
            host.setting(LIMIT.format(limit_ms))
            for statement in statements:
                host.run(statement)
    except Exception as error:
        if _state(error) in (LOCK_NOT_AVAILABLE, DEADLOCK) or CHANGED_MEANWHILE in str(error):
            return False
        raise
    return True


def _state(error: Any) -> str | None:
    state: str | None = getattr(error, "sqlstate", None)
    return state
