"""Carries out retire(): suspends an old key version that no value needs, and destroys it when its grace is over."""

from __future__ import annotations

import time

from pg_envelope import errors
from pg_envelope.backend.host import Row
from pg_envelope.backend.keys import StillActive
from pg_envelope.backend.lifecycle.batches import ONE_BY_ONE
from pg_envelope.backend.lifecycle.erasure import Erasure
from pg_envelope.backend.sqltext import commas, ident, literal
from pg_envelope.backend.tables import catalog, inspect, whole
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.owner import AsOwner

STANDBY_SECONDS = 5.0
SLICE_SECONDS = 0.1
VERSION = """
SELECT d.dek_id, d.version, d.fingerprint, d.kek, d.store, d.kek_version, d.state, d.suspended_from, d.created_at,
    d.is_retired, d.state_since + p.grace AS free_at, d.state_since + p.grace <= now() AS is_free,
    p.grace::text AS grace
FROM envelope_private.dek d JOIN LATERAL (
    SELECT grace FROM envelope_private.schedule_in_force p
    WHERE p.level = 'dek' AND (p.subject = d.key_uuid::text OR p.subject IS NULL)
    ORDER BY p.subject NULLS LAST LIMIT 1) p ON true
WHERE d.key_uuid = $1 AND d.version = $2"""
KEY_IDS = "SELECT encode(substr(int8send(key_id), 5), 'hex') AS id FROM envelope_private.field_key WHERE dek_id = $1"
KNOWN_IDS = """
SELECT encode(substr(int8send(fk.key_id), 5), 'hex') AS id
FROM envelope_private.field_key fk JOIN envelope_private.field f USING (field_uuid) WHERE f.key_uuid = $1"""
# A backup from after the retirement holds no value under this version, because the table was looked through before.
BACKUPS = """
SELECT string_agg(format('%s (expires: %s)', label, coalesce(expires_at::text, 'never')), ', ' ORDER BY taken_at)
    AS found
FROM envelope_private.backup b, envelope_private.dek d
WHERE d.dek_id = $1 AND b.finished_at >= d.created_at
    AND b.taken_at <= CASE WHEN d.is_retired THEN d.state_since ELSE now() END
    AND coalesce(b.expires_at, 'infinity') > now() AND b.forgotten_at IS NULL"""
LSN = "SELECT pg_current_wal_insert_lsn()::text AS lsn"
# An idle slot keeps WAL for a standby that is away. A base backup under way has a sender that replays nothing.
STANDBYS = """
SELECT string_agg(name, ', ' ORDER BY name) AS found FROM (
    SELECT format('%s (%s)', application_name, coalesce(client_addr::text, 'local')) AS name
    FROM pg_catalog.pg_stat_replication WHERE coalesce(replay_lsn, '0/0') < $1::pg_lsn
    UNION ALL
    SELECT format('slot %s', slot_name) FROM pg_catalog.pg_replication_slots
    WHERE slot_type = 'physical' AND NOT active AND coalesce(restart_lsn, '0/0') < $1::pg_lsn) s"""
SUSPEND = """
UPDATE envelope_private.dek
SET state = 'suspended', suspended_from = coalesce(suspended_from, state), is_retired = true, state_since = now()
WHERE dek_id = $1"""


class StillNeeded(errors.NotConfigured):
    sqlstate = "55006"
    text = "this key version is still needed"


class Retirement(Erasure):
    """Retires one version of one table's key. It commits, and empties all caches."""

    def retire(self, oid: int, version: int | None, destroy: bool) -> None:
        """Raises StillActive, StillNeeded, KeyDestroyed, KeyNotFound, Unsupported; then nothing was changed."""
        self._host.run(ONE_BY_ONE)
        key = catalog.key_of(self._host, oid)
        if key["scope"] != "table":
            raise errors.Unsupported(
                "retire() is for tables with one key for all rows",
                hint="CALL envelope.shred(rel, subject) destroys the keys of one subject.",
            )
        label = self._lock(str(key["key_uuid"]))
        dek = self._version(str(key["key_uuid"]), version)
        self._refuse_used(key, dek)
        if not dek["is_retired"]:
            self._suspend(label, version, dek)
        elif destroy:
            self._destroy(label, version, dek)
        else:
            self._host.notice(
                f"retire: version {version} of {label} is suspended, and can be destroyed from {dek['free_at']}"
            )

    def _version(self, key_uuid: str, version: int | None) -> Row:
        dek = self._host.row(VERSION, ["uuid", "int4"], [key_uuid, version])
        if dek is None:
            raise errors.KeyNotFound("this key has no such version", hint="envelope.keys lists the versions.")
        if "active" in (dek["state"], dek["suspended_from"]):
            raise StillActive(hint="Rotate and re-encrypt first: envelope.rotate(...), CALL envelope.reencrypt(...).")
        if dek["state"] == "destroyed":
            raise errors.KeyDestroyed
        return dek

    def _refuse_used(self, key: Row, dek: Row) -> None:
        """Raises StillNeeded when values are under the version. Looks as the owner, who could have put a view in the
        table's place.
        """
        table = inspect.inspect(self._host, key["base"])
        layout = catalog.layout_of(self._host, key, table)
        whole.refuse_hidden(self._host, key, layout, "retire")
        # The lock waits for transactions that wrote under this version. After the suspension no transaction can.
        self._host.run(f"LOCK TABLE {layout.base} IN SHARE MODE")
        # The lock is held here: a column that is not found cannot be searched, and may hold values under this version.
        whole.refuse_missing(self._host, key, layout)
        under_it = f"IN ({self._ids(KEY_IDS, 'int8', dek['dek_id'])})"
        unknown = f"NOT IN ({self._ids(KNOWN_IDS, 'uuid', str(key['key_uuid']))})"
        used, odd = self._counts(AsOwner(self._host, table.owner_oid), layout, under_it, unknown)
        if used:
            raise StillNeeded(
                detail=f"values in {layout.base} under it: {', '.join(used)}",
                hint="CALL envelope.reencrypt(...) moves them. If the version is suspended, first:"
                f" CALL envelope.unsuspend(..., version => {dek['version']})."
                " Values that reencrypt leaves do not open: see envelope.faults.",
            )
        if odd:
            raise StillNeeded(
                detail=f"values in {layout.base} whose header names no key of their column: {', '.join(odd)}",
                hint="A damaged header may hide that this version is needed. CALL envelope.verify(...) finds the rows.",
            )

    def _ids(self, query: str, kind: str, of: object) -> str:
        return commas(literal(f"\\x{row['id']}") for row in self._host.rows(query, [kind], [of]))

    def _counts(self, owner: AsOwner, layout: Layout, *conditions: str) -> list[list[str]]:
        """For each condition on a key id, counts the values by column, in one scan. Returns texts, one for each column
        that has any.
        """
        counts = {
            (name, condition): f"count(*) FILTER (WHERE substr(t.{ident(name)}, 3, 4) {condition})"
            for condition in conditions
            for name in layout.protected
        }
        wanted = commas(f"{count} AS found_{number}" for number, count in enumerate(counts.values()))
        (row,) = owner.rows(f"SELECT {wanted} FROM {layout.base} t")
        found = {place: row[f"found_{number}"] for number, place in enumerate(counts)}
        return [
            [f"{name}: {found[name, condition]}" for name in layout.protected if found[name, condition]]
            for condition in conditions
        ]

    def _suspend(self, label: str, version: int | None, dek: Row) -> None:
        self._host.rows(SUSPEND, ["int8"], [dek["dek_id"]])
        change = {"dek_id": dek["dek_id"], "from": dek["state"], "to": "suspended"}
        self._record("retire", label, [change])
        backups = self._backups(dek)
        self._end("retire")
        self._host.notice(
            f"retire: version {version} of {label} is suspended; it can be destroyed after {dek['grace']}",
            detail=f"Backups that need it: {backups}" if backups else None,
            hint="CALL envelope.retire(..., destroy => true) destroys it then;"
            f" CALL envelope.unsuspend(..., version => {version}) makes it usable again.",
        )

    def _destroy(self, label: str, version: int | None, dek: Row) -> None:
        if not dek["is_free"]:
            raise StillNeeded(
                detail=f"it is suspended, and can be destroyed from {dek['free_at']}",
                hint="The grace is that of envelope.set_schedule('dek', ..., grace => ...).",
            )
        if backups := self._backups(dek):
            raise StillNeeded(
                detail=f"backups with values under it: {backups}",
                hint="Wait until they expire. For a destroyed backup: SELECT envelope.forget_backup(label).",
            )
        self._refuse_standbys()
        self.destroy("retire", label, [dek], None, "retired")
        self._end("retire")
        self._host.notice(f"retire: version {version} of {label} is destroyed")

    def _backups(self, dek: Row) -> str | None:
        row = self._host.row(BACKUPS, ["int8"], [dek["dek_id"]])
        return row["found"] if row else None

    def _refuse_standbys(self) -> None:
        """Refuses while a standby is behind, because it may still have old values. Gives it a while to catch up."""
        here = self._host.row(LSN)
        until = time.monotonic() + STANDBY_SECONDS
        while found := self._behind(str(here and here["lsn"])):
            if time.monotonic() > until:
                raise StillNeeded(
                    detail=f"standbys or slots that are behind: {found}", hint="Let them catch up, or drop the slot."
                )
            time.sleep(SLICE_SECONDS)
            self._host.interrupts()

    def _behind(self, lsn: str) -> str | None:
        # PostgreSQL reads statistics views once for a transaction.
        self._host.rows("SELECT pg_stat_clear_snapshot()")
        row = self._host.row(STANDBYS, ["text"], [lsn])
        return row["found"] if row else None
