"""rotate_kek(), rewrap() and rotate_emergency(): they commit as they go, so that a crash costs one batch at most."""

from __future__ import annotations

import base64
import json
import time

from pg_envelope import errors, wire
from pg_envelope.backend.commits import begin, pin
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.keys import STORES, Keys
from pg_envelope.backend.link import Link, not_understood
from pg_envelope.backend.loader import Loader
from pg_envelope.backend.sqltext import literal
from pg_envelope.backend.tables import catalog
from pg_envelope.backend.tables.reencrypt import reencrypt

# What one request to the broker carries. A DEK in store vault costs a read and a write of its own there.
BATCH = {"catalog": 200, "vault": 50}
SMALLEST_BATCH = 10
REENCRYPT_ROWS = 1000
NOTICE_SECONDS = 1.0
CHANNEL = "envelope"
# What is wrong with one DEK; any other error would meet the next batch as well.
OF_ONE_DEK = (errors.UnwrapFailed, errors.KeyNotFound, errors.KeyDestroyed, errors.StoreConflict)
SHOWN = 10

# One batch at a time in the whole database. Locked before a transaction's first snapshot, so that it sees what the one
# before it wrote at any isolation level. Nobody without rights on the table can hold up the others.
ONE_BY_ONE = "LOCK TABLE envelope_private.installation IN SHARE UPDATE EXCLUSIVE MODE"
INSTALLATION = "SELECT database_uuid::text AS uuid FROM envelope_private.installation"
BEHIND = """
envelope_private.dek
WHERE kek = $1 AND state <> 'destroyed' AND ($2 IS NULL OR kek_version IS NULL OR kek_version < $2)"""
COUNT = f"SELECT count(*) AS found FROM {BEHIND}"
NEXT = f"""
SELECT dek_id, wrapped, fingerprint, kek_version
FROM {BEHIND} AND store = $3 AND dek_id > $4 ORDER BY dek_id LIMIT $5"""
DESTROYED = "SELECT count(*) AS found FROM envelope_private.dek WHERE kek = $1 AND state = 'destroyed'"
# Only over what was read: a DEK that was moved to another KEK or destroyed meanwhile stays as that left it.
KEEP = """
UPDATE envelope_private.dek d SET wrapped = n.wrapped, kek_version = n.kek_version
FROM unnest($3::bigint[], $4::text[], $5::text[], $6::int4[]) AS n (dek_id, old, wrapped, kek_version)
WHERE d.dek_id = n.dek_id AND d.kek = $1 AND d.store = $2 AND d.state <> 'destroyed'
    AND d.wrapped IS NOT DISTINCT FROM n.old RETURNING d.dek_id"""


class Incomplete(errors.Unavailable):
    """Some DEKs are still under an old version of their KEK."""

    default_hint = None


class Rewrap:
    """Brings the DEKs of one KEK to its newest version; which one that is, the first answer tells if need be."""

    def __init__(self, host: Host, link: Link, loader: Loader, kek: str, what: str) -> None:
        self._host, self._link = host, link
        self._kek, self._what = kek, what
        self._who = loader.who()
        self._newest: int | None = None
        self._sizes = dict(BATCH)
        self._failed: dict[int, errors.EnvelopeError] = {}
        self._total, self._done, self._told = 0, 0, time.monotonic()

    def rotate(self) -> None:
        """A new version of the KEK; what is wrapped under older ones opens as before."""
        try:
            self._newest = int(self._link.ask("rotate_kek", self._who, kek=self._kek)["kek_version"])
        except (errors.Deadline, errors.KmsUnavailable) as error:
            error.hint = f"{error.hint or ''} No DEK was changed. If the KEK was rotated: {self._again}.".strip()
            raise
        self._host.notice(f"{self._what}: KEK {self._kek} has version {self._newest}")

    def run(self) -> None:
        """Raises what stopped it, or Incomplete; what is committed stays done, and calling again goes on from there."""
        self._total = self._behind()
        self._commit()
        try:
            self._pass()
            self._wait_for_new_deks()
            self._pass()
        except errors.EnvelopeError as error:
            so_far = f"{self._done} of {self._total} DEKs were rewrapped before; all open as ever"
            error.detail = f"{error.detail}; {so_far}" if error.detail else so_far
            error.hint = f"{error.hint or ''} To go on: {self._again}.".strip()
            raise
        self._finish()

    @property
    def _again(self) -> str:
        return f"CALL envelope.rewrap({literal(self._kek)})"

    def _behind(self) -> int:
        row = self._host.row(COUNT, ["text", "int4"], [self._kek, self._newest])
        return int(row["found"]) if row else 0

    def _wait_for_new_deks(self) -> None:
        """Who got a DEK from the broker before the KEK was rotated holds this lock until the DEK can be seen here."""
        self._host.run("LOCK TABLE envelope_private.dek IN SHARE MODE")
        self._commit()

    def _commit(self) -> None:
        self._host.commit()
        pin(self._host)

    def _pass(self) -> None:
        for store in STORES:
            last = 0
            while (reached := self._batch(store, last)) is not None:
                last = reached
                self._tell()

    def _batch(self, store: str, last: int) -> int | None:
        """Rewraps the DEKs after `last`, and commits. The last one of them; None when there are none."""
        self._host.run(ONE_BY_ONE)
        installation = self._host.row(INSTALLATION)
        size = self._sizes[store]
        types = ["text", "int4", "text", "bigint", "int4"]
        rows = self._host.rows(NEXT, types, [self._kek, self._newest, store, last, size])
        stopped: errors.EnvelopeError | None = None
        if installation and rows:
            stopped = self._rewrap(str(installation["uuid"]), store, rows)
        self._commit()
        if isinstance(stopped, errors.Deadline) and size > SMALLEST_BATCH:
            self._sizes[store] = max(SMALLEST_BATCH, size // 2)
            return last
        if stopped is not None:
            raise stopped
        return int(rows[-1]["dek_id"]) if rows else None

    def _rewrap(self, database: str, store: str, rows: list[Row]) -> errors.EnvelopeError | None:
        """Writes what the broker rewrapped. The error that stops all others, if there is one."""
        try:
            answers = self._asked(database, store, rows)
        except errors.EnvelopeError as error:
            return error
        good = [(row, answer) for row, answer in answers if "error" not in answer]
        self._keep(store, good)
        refused = {row["dek_id"]: wire.error_from(answer["error"]) for row, answer in answers if "error" in answer}
        own = {dek_id: error for dek_id, error in refused.items() if isinstance(error, OF_ONE_DEK)}
        self._failed.update(own)
        return next((error for dek_id, error in refused.items() if dek_id not in own), None)

    def _asked(self, database: str, store: str, rows: list[Row]) -> list[tuple[Row, wire.Message]]:
        deks = [
            {
                "dek_id": row["dek_id"],
                "wrapped": row["wrapped"],
                "fingerprint": base64.b64encode(row["fingerprint"]).decode(),
            }
            for row in rows
        ]
        answer = self._link.ask("rewrap", self._who, database_uuid=database, kek=self._kek, store=store, deks=deks).get(
            "deks"
        )
        if not isinstance(answer, list) or len(answer) != len(rows):
            raise not_understood()
        if not all(_fits(row, found, store) for row, found in zip(rows, answer, strict=True)):
            raise not_understood()
        return list(zip(rows, answer, strict=True))

    def _keep(self, store: str, good: list[tuple[Row, wire.Message]]) -> None:
        moved = [(row, answer) for row, answer in good if row["kek_version"] != answer["kek_version"]]
        columns = [
            [row["dek_id"] for row, _ in moved],
            [row["wrapped"] for row, _ in moved],
            [answer["wrapped"] for _, answer in moved],
            [answer["kek_version"] for _, answer in moved],
        ]
        types = ["text", "text", "bigint[]", "text[]", "text[]", "int4[]"]
        self._done += len(self._host.rows(KEEP, types, [self._kek, store, *columns]))
        self._newest = max([self._newest or 0, *(answer["kek_version"] for _, answer in good)]) or None
        for row, _ in good:
            self._failed.pop(row["dek_id"], None)

    def _tell(self) -> None:
        if time.monotonic() - self._told > NOTICE_SECONDS:
            self._host.notice(f"{self._what}: {self._done} of {max(self._done, self._total)} DEKs rewrapped")
            self._told = time.monotonic()

    def _finish(self) -> None:
        behind = self._behind()
        if behind:
            raise self._incomplete(behind)
        row = self._host.row(DESTROYED, ["text"], [self._kek])
        destroyed = f", {row['found']} destroyed ones passed over" if row and row["found"] else ""
        newest = f"all DEKs have version {self._newest}" if self._newest else "there are no DEKs"
        self._host.notice(f"{self._what}: KEK {self._kek}: {newest}; {self._done} were rewrapped{destroyed}")

    def _incomplete(self, count: int) -> Incomplete:
        causes = [f"DEK {dek_id}: {error.message}" for dek_id, error in sorted(self._failed.items())]
        more = [f"and {len(causes) - SHOWN} more"] if len(causes) > SHOWN else []
        return Incomplete(
            f"{count} DEKs are still under an old version of KEK {self._kek}",
            detail="; ".join([f"{self._done} were rewrapped", *causes[:SHOWN], *more]),
            hint=f"Old KEK versions must stay until this ends well: {self._again}. envelope.keys shows dek_id.",
        )


def _fits(row: Row, found: object, store: str) -> bool:
    """Whether an answer is about this DEK, and holds a new wrap where the catalog keeps it."""
    if not isinstance(found, dict) or found.get("dek_id") != row["dek_id"]:
        return False
    if "error" in found:
        return isinstance(found["error"], dict)
    wrapped = isinstance(found.get("wrapped"), str) if store == "catalog" else found.get("wrapped") is None
    return wrapped and type(found.get("kek_version")) is int


def rotate_emergency(host: Host, link: Link, loader: Loader, keys: Keys, oid: int, reason: str) -> None:
    """A new key for a table whose old ones are known to others, at once; then every value under it."""
    if not reason.strip():
        raise errors.BadInput("rotate_emergency() needs a reason", hint="It goes to the audit log.")
    begin(host, "rotate_emergency")
    # It marks several DEKs, newest first, and a batch of rewrap() writes several, oldest first: not at the same time.
    host.run(ONE_BY_ONE)
    key = catalog.key_of(host, oid)
    version = keys.rotate(str(key["key_uuid"]), reason)
    compromised = keys.compromise_old(str(key["key_uuid"]), reason)
    _notify(host, key, version)
    host.commit()
    pin(host)
    link.ask("flush", loader.who(), reason=reason)
    host.notice(
        f"rotate_emergency: new writes use version {version}; compromised: {', '.join(map(str, compromised))}",
        hint="If this ends early: CALL envelope.reencrypt(...) goes on.",
    )
    reencrypt(host, oid, REENCRYPT_ROWS)
    # Once more: to read old values, sessions had to fetch the old keys again.
    link.ask("flush", loader.who(), reason=reason)


def _notify(host: Host, key: Row, version: int) -> None:
    """Delivered at the commit. Every role can listen, so it says no more than which table."""
    told = json.dumps(
        {"event": "rotate_emergency", "relation": key["view_name"] or key["base_name"], "version": version}
    )
    host.rows("SELECT pg_notify($1, $2)", ["text", "text"], [CHANNEL, told])
