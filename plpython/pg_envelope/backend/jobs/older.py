"""Waits for transactions that began before a table's newest key: their values may be under an older key."""

from __future__ import annotations

import time
from collections.abc import Callable

from pg_envelope import errors
from pg_envelope.backend.host import Host
from pg_envelope.backend.jobs.job import Job

LIMIT_SECONDS = 600.0
NOTICE_SECONDS = 10.0
SLICE_SECONDS = 0.1
SHOWN = 10

# The age, in transactions, of the newest key that replaced another one, by the transaction that wrote its row.
ROTATED = """
SELECT min(age(fk.xmin)) AS age FROM envelope_private.field_key fk JOIN envelope_private.dek d USING (dek_id)
JOIN envelope_private.key k ON coalesce(k.scope_of, k.key_uuid) = d.key_uuid
WHERE k.key_uuid = $1 AND fk.state = 'active' AND (fk.version > 1 OR d.version > 1) AND age(fk.xmin) >= 0"""
# These transactions are at least as old: their snapshots may not show the newest key. The query looks at a
# transaction's writes and at its snapshot, because a transaction that wrote, and now waits for its client, has no
# snapshot.
OLDER = """
SELECT 'pid ' || a.pid AS who, format('%s %s %s', a.pid, a.backend_start, a.xact_start) AS which
FROM pg_catalog.pg_stat_activity a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
    AND a.backend_type NOT IN ('autovacuum worker', 'walsender')
    AND greatest(age(a.backend_xid), age(a.backend_xmin)) >= $1
UNION ALL
SELECT 'prepared transaction ' || quote_literal(p.gid), p.transaction::text FROM pg_catalog.pg_prepared_xacts p
WHERE p.database = current_database() AND age(p.transaction) >= $1
ORDER BY who"""
# Who only writes, and has no snapshot now, will see with the next one what is committed. A standby tells the oldest
# snapshot of its sessions if it has hot_standby_feedback.
READERS = """
SELECT 'pid ' || a.pid AS who, format('%s %s %s', a.pid, a.backend_start, a.xact_start) AS which
FROM pg_catalog.pg_stat_activity a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
    AND a.backend_type NOT IN ('autovacuum worker', 'walsender') AND age(a.backend_xmin) >= $1
UNION ALL
SELECT format('standby %s (pid %s)', coalesce(nullif(r.application_name, ''), 'without a name'), r.pid),
    format('standby %s %s', r.pid, r.backend_start)
FROM pg_catalog.pg_stat_replication r LEFT JOIN pg_catalog.pg_replication_slots s ON s.active_pid = r.pid
WHERE s.slot_type IS DISTINCT FROM 'logical' AND greatest(age(r.backend_xmin), age(s.xmin)) >= $1
ORDER BY who"""
NOW = "SELECT pg_current_xact_id()::xid::text AS xid"
AGE = "SELECT age($1::xid) AS age"
NEWEST_KEY, WRITE = "the newest key", "write values under an older one"
LIMIT = "SELECT setting::float8 / 1000 AS seconds FROM pg_catalog.pg_settings WHERE name = 'lock_timeout'"


class OlderTransactions(errors.NotConfigured):
    sqlstate = "55006"


def wait_for_older(host: Host, key_uuid: str, job: Job) -> bool:
    """Waits until all transactions that began before the newest key have ended. Returns whether there were any.

    Raises OlderTransactions.
    """
    return _wait(host, job, lambda: _older(host, OLDER, ROTATED, "uuid", key_uuid), NEWEST_KEY, WRITE)


def wait_for_readers(host: Host, job: Job, made: str) -> None:
    """Waits until all transactions that may see older rows than those of now have ended. Raises OlderTransactions.

    `made` is what the last rows got, in words for people.
    """
    (now,) = host.rows(NOW)
    host.commit()
    _wait(
        host, job, lambda: _older(host, READERS, AGE, "text", now["xid"]), f"{made} were made", "see rows without them"
    )


def _wait(host: Host, job: Job, older: Callable[[], dict[str, str]], since: str, they: str) -> bool:
    """Waits for the transactions of now. Returns whether there were any. `since` and `they` are words for people.

    Raises OlderTransactions after lock_timeout, or after 10 minutes where lock_timeout is not set.
    """
    row = host.row(LIMIT)
    limit = row["seconds"] if row and row["seconds"] else LIMIT_SECONDS
    began, told = time.monotonic(), -NOTICE_SECONDS
    # It is enough to wait for those of now: a later transaction sees the change, however old its snapshot looks.
    first = left = older()
    while left:
        waited = time.monotonic() - began
        if waited >= limit:
            raise OlderTransactions(
                f"transactions that began before {since} may still {they}",
                detail=f"after {limit:g} s: {_shown(left)}",
                hint="When they have ended, call it again. lock_timeout says how long to wait.",
            )
        if waited - told >= NOTICE_SECONDS:
            host.notice(f"{job.what}: waiting for transactions that began before {since}: {_shown(left)}")
            told = waited
        job.rest(SLICE_SECONDS)
        left = {which: who for which, who in older().items() if which in first}
    return bool(first)


def _older(host: Host, query: str, age: str, kind: str, of: str) -> dict[str, str]:
    """Returns these transactions, with words for each. age() counts from one point in all of a transaction."""
    row = host.row(age, [kind], [of])
    if row is None or row["age"] is None:
        return {}
    return {other["which"]: other["who"] for other in host.rows(query, ["int4"], [row["age"]])}


def _shown(found: dict[str, str]) -> str:
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(list(found.values())[:SHOWN]) + more
