"""Removes or refuses what code of a table's owner would leave in the session that called it.

A restricted operation forbids most of it. Left over are advisory locks of the session, open cursors, and objects in
pg_temp, whose types and functions a later statement of the session could meet.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pg_envelope import errors
from pg_envelope.backend.host import Host
from pg_envelope.backend.server import settings_kept
from pg_envelope.backend.sqltext import ident

# The parts of a lock's key: a key of 64 bits has objsubid 1, a key of two times 32 bits has 2.
HELD = """
SELECT 'cursor' AS kind, name AS found FROM pg_catalog.pg_cursors
UNION ALL
SELECT 'temporary', format('%s %s', classid, objid) FROM pg_catalog.pg_depend
WHERE refclassid = 'pg_namespace'::regclass AND refobjid = pg_my_temp_schema()
UNION ALL
SELECT 'lock', format('%s %s %s %s', objsubid, mode, classid, objid) FROM pg_catalog.pg_locks
WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted"""
# The result is false for a lock that ends with the transaction. PostgreSQL warns of each, which nobody needs to read.
UNLOCK = """
WITH quiet AS MATERIALIZED (
    SELECT set_config('client_min_messages', 'error', true),
        CASE WHEN r.rolsuper THEN set_config('log_min_messages', 'fatal', true) END
    FROM pg_catalog.pg_roles r WHERE r.rolname = current_user)
SELECT CASE
    WHEN $1 = 1 AND $2 = 'ExclusiveLock' THEN pg_advisory_unlock(($3 << 32) | $4)
    WHEN $1 = 1 THEN pg_advisory_unlock_shared(($3 << 32) | $4)
    WHEN $2 = 'ExclusiveLock' THEN pg_advisory_unlock($3::bit(32)::integer, $4::bit(32)::integer)
    ELSE pg_advisory_unlock_shared($3::bit(32)::integer, $4::bit(32)::integer) END AS released
FROM quiet"""
HINT = "Look at the functions of its CHECKs, casts, indexes and triggers. The statement that ran them was undone."


class LeftBehind(errors.NotPermitted):
    """Code of a table's owner did something to its caller's session that it must not do."""

    text = "the table's own code changed the session of its caller"
    default_hint = HINT


@contextmanager
def nothing_left(host: Host) -> Iterator[None]:
    """Raises LeftBehind when the code inside made objects in pg_temp, or released locks that the session had."""
    before = _held(host)
    try:
        with host.subtransaction():
            yield
            now = _held(host)
            if _of("temporary", now ^ before):
                raise LeftBehind(detail="It made or dropped objects in pg_temp.")
            if _of("lock", before - now):
                raise LeftBehind(detail="It released advisory locks of the session.")
            for name in _of("cursor", now - before):
                host.run(f"CLOSE {ident(name)}")
    finally:
        _release(host, _of("lock", _held(host) - before))


def _held(host: Host) -> set[tuple[str, str]]:
    return {(row["kind"], row["found"]) for row in host.rows(HELD)}


def _of(kind: str, found: set[tuple[str, str]]) -> list[str]:
    return [name for of, name in found if of == kind]


def _release(host: Host, locks: list[str]) -> None:
    """Releases locks of the session, each as often as it was taken."""
    for lock in locks:
        objsubid, mode, *key = lock.split()
        values = [int(objsubid), mode, *map(int, key)]
        with settings_kept():
            while host.rows(UNLOCK, ["int4", "text", "int8", "int8"], values)[0]["released"]:
                pass
