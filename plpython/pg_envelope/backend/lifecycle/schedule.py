"""Carries out rotate_due(): rotates each key that is due, in a transaction of its own, and counts the overdue ones."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from pg_envelope import errors
from pg_envelope.backend.commits import ENDS_ALL
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.keys import Keys
from pg_envelope.backend.link import Link

DUE = """
SELECT level, subject, key_uuid, attname, label, command, reencrypt,
    (SELECT base::oid FROM envelope_private.key k WHERE k.key_uuid = s.key_uuid) AS base
FROM envelope_private.scheduled s
WHERE due_at <= now() AND ($1 IS NULL OR level = $1 AND subject = $2 AND attname IS NOT DISTINCT FROM $3)
ORDER BY array_position(ARRAY['kek', 'dek', 'field_key', 'secret'], level), due_at, label"""
TYPES = ["text", "text", "name"]
OVERDUE = """
SELECT string_agg(level || ' ' || subject, ', ' ORDER BY due_at, subject) AS found, count(*) AS count
FROM envelope.due WHERE overdue IS NOT NULL"""
OLDEST = """
SELECT level, EXTRACT(epoch FROM min(last_rotated))::bigint AS since FROM envelope_private.rotation
WHERE last_rotated BETWEEN to_timestamp(0) AND now() GROUP BY level ORDER BY level"""
# The lock belongs to the session: it outlives the commits.
LOCK = "SELECT pg_try_advisory_lock('envelope_private.schedule'::regclass::oid::bigint) AS mine"
UNLOCK = "SELECT pg_advisory_unlock('envelope_private.schedule'::regclass::oid::bigint)"
HOLDER = """
SELECT string_agg(pid::text, ', ') AS pids FROM pg_catalog.pg_locks
WHERE locktype = 'advisory' AND granted AND objid = 'envelope_private.schedule'::regclass
    AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())"""


class SomeNotRotated(errors.Unavailable):
    """Some keys that are due could not be rotated."""

    default_hint = "The other keys are rotated. Mend the cause, then CALL envelope.rotate_due()."


class RotateDue:
    """One run: it takes the list at its beginning, and asks for each item again in the item's own transaction."""

    def __init__(
        self, host: Host, keys: Keys, rotate_kek: Callable[[str], None], reencrypt: Callable[[int], None]
    ) -> None:
        self._host, self._keys = host, keys
        self._rotate_kek, self._reencrypt = rotate_kek, reencrypt
        self._done: list[str] = []
        self._failed: list[str] = []

    def run(self, dry_run: bool) -> None:
        """Raises SomeNotRotated at the end, if a key could not be rotated.

        Does nothing while another session does it.
        """
        locked = self._host.row(LOCK)
        if not (locked and locked["mine"]):
            holder = self._host.row(HOLDER)
            self._host.notice(f"rotate_due: another session rotates already (pid {holder and holder['pids']})")
            return
        try:
            self._all(dry_run)
        finally:
            self._host.rows(UNLOCK)

    def _all(self, dry_run: bool) -> None:
        due = self._host.rows(DUE, TYPES, [None, None, None])
        for item in due:
            if dry_run or item["level"] == "secret":
                told = "would run" if dry_run else "a new secret is yours to choose"
                self._host.notice(f"rotate_due: {_name(item)} is due; {told}: {item['command']}")
            else:
                self._one(item)
        if self._failed:
            raise SomeNotRotated(
                f"{len(self._failed)} of {len(self._failed) + len(self._done)} rotations failed",
                detail="; ".join(self._failed),
            )
        if not due:
            self._host.notice("rotate_due: nothing is due")

    def _one(self, item: Row) -> None:
        """Rotates one key if it is still due. A new DEK may have brought new field keys, or another session was
        quicker.
        """
        try:
            if not self._host.rows(DUE, TYPES, [item["level"], item["subject"], item["attname"]]):
                return
            self._rotate(item)
            self._host.commit()
            if item["reencrypt"] and item["base"] is not None:
                self._reencrypt(int(item["base"]))
                self._host.commit()
        except Exception as error:
            known = error if isinstance(error, errors.EnvelopeError) else self._host.passed_on(error)
            if known is None or str(known.sqlstate).startswith(ENDS_ALL):
                raise
            self._host.rollback()
            self._failed.append(f"{_name(item)}: {known.message}")
            return
        self._done.append(_name(item))
        self._host.notice(f"rotate_due: {_name(item)} was rotated")

    def _rotate(self, item: Row) -> None:
        if item["level"] == "kek":
            self._rotate_kek(item["subject"])
        elif item["level"] == "dek":
            self._keys.rotate(str(item["key_uuid"]), "schedule")
        else:
            self._keys.rotate_field(str(item["key_uuid"]), item["attname"], "schedule")


def _name(item: Row) -> str:
    return f"{item['level']} {item['label']}"


def tell_overdue(host: Host, link: Link) -> None:
    """Tells the broker, for its metrics, how many keys are overdue, and how old the oldest are. Does nothing when no
    broker answers.
    """
    row, oldest = host.row(OVERDUE), host.rows(OLDEST)
    with suppress(errors.EnvelopeError):
        link.ask("schedule", overdue=int(row["count"]) if row else 0, oldest=oldest)
