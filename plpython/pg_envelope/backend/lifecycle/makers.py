"""Waits for transactions that may have made a key which nobody else can see yet. It holds up none of them."""

from __future__ import annotations

import time
from collections.abc import Callable

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row

SLICE_SECONDS = 0.1
TOLD_AFTER_SECONDS = 5.0
MOST_SECONDS = 600.0
# A lock of our own would not do, because the session that makes the next key would wait behind it.
HOLDERS = """
SELECT l.virtualtransaction AS id,
    CASE WHEN l.pid IS NOT NULL THEN format('process %s of %s', l.pid, coalesce(a.usename, '?'))
        ELSE format('prepared transaction %L', (
            SELECT min(p.gid) FROM pg_prepared_xacts p JOIN pg_locks x ON x.transactionid = p.transaction
            WHERE x.virtualtransaction = l.virtualtransaction)) END AS label
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.relation = 'envelope_private.dek'::regclass AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')"""
PATIENCE = "SELECT setting::float8 / 1000 AS seconds FROM pg_settings WHERE name = 'lock_timeout'"


class StillMaking(errors.NotConfigured):
    sqlstate = "55P03"
    text = "transactions that may have made keys are still open"


def wait(host: Host, commit: Callable[[], None], what: str) -> None:
    """Waits for the sessions that hold the table of DEKs now, and commits as it waits.

    A session that comes later gets DEKs in the new way. Raises StillMaking after `lock_timeout`, or after ten minutes.
    """
    holders = _holders(host)
    start, told = time.monotonic(), False
    patience = _patience(host)
    while holders:
        commit()
        waited = time.monotonic() - start
        if waited > patience:
            raise StillMaking(
                detail=_labels(holders), hint="End them: COMMIT, ROLLBACK PREPARED, pg_terminate_backend()."
            )
        if waited > TOLD_AFTER_SECONDS and not told:
            told = True
            host.notice(f"{what}: waits for transactions that may have made keys", detail=_labels(holders))
        time.sleep(SLICE_SECONDS)
        host.interrupts()
        now = _holders(host)
        holders = {name: label for name, label in holders.items() if name in now}


def _holders(host: Host) -> dict[str, str]:
    # PostgreSQL reads pg_stat_activity once for a transaction.
    host.rows("SELECT pg_stat_clear_snapshot()")
    found: list[Row] = host.rows(HOLDERS)
    return {row["id"]: row["label"] for row in found}


def _patience(host: Host) -> float:
    row = host.row(PATIENCE)
    return float(row["seconds"] if row and row["seconds"] else MOST_SECONDS)


def _labels(holders: dict[str, str]) -> str:
    return ", ".join(sorted(holders.values()))
