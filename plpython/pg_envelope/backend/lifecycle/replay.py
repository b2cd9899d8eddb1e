"""Carries out replay_erasures(): after a restore, it destroys the keys again that the ledger lists as erased."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from pg_envelope import errors, wire
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.lifecycle import identity
from pg_envelope.backend.lifecycle.batches import ONE_BY_ONE
from pg_envelope.backend.lifecycle.erasure import Erasure
from pg_envelope.backend.link import Link
from pg_envelope.backend.search import clearing

WHAT = "replay_erasures"
# The broker takes longer to verify a long ledger than one request may last.
PATIENCE = 30
ENTRIES = 500
INSTALLATION = "SELECT database_uuid::text AS uuid FROM envelope_private.installation"
STANDBY = "SELECT pg_is_in_recovery() AS standby"
LAGS = "This standby has not replayed them yet. If that lasts, see why it lags: pg_last_xact_replay_timestamp()."
OTHER_LEDGER = (
    "This standby's broker has a ledger of its own, which lacks them: pg-envelope erasures export on the primary's"
    " broker, import on this one; see docs/runbooks/erase.md."
)
ALIVE = """
SELECT d.dek_id, d.fingerprint, d.kek, d.store, d.kek_version, d.version,
    'active' IN (d.state, d.suspended_from) AS is_active,
    coalesce(k.name, t.oid::regclass::text, 'dropped') AS label
FROM envelope_private.dek d
JOIN unnest($1::bigint[], $2::bytea[]) AS n (dek_id, fingerprint) USING (dek_id, fingerprint)
LEFT JOIN envelope_private.key k USING (key_uuid) LEFT JOIN pg_class t ON t.oid = coalesce(k.view, k.base)
WHERE d.state <> 'destroyed' ORDER BY d.dek_id"""
SKIP_IDS = """
SELECT setval('envelope_private.dek_id_seq', $1) WHERE $1 > (SELECT last_value FROM envelope_private.dek_id_seq)"""
# Tombstones whose DEK is no longer in the catalog: their erasures have been carried out.
CARRIED_OUT = """
SELECT count(*) AS count FROM envelope_private.tombstone t WHERE NOT EXISTS (
    SELECT FROM envelope_private.dek d
    WHERE d.dek_id = t.dek_id AND d.fingerprint = t.fingerprint AND d.state <> 'destroyed')"""
TOMBSTONES = """
SELECT dek_id, fingerprint, kek, store, kek_version, label, reason, encode(subject, 'hex') AS subject,
    encode(salt, 'hex') AS salt
FROM envelope_private.tombstone ORDER BY label, reason, subject, salt, dek_id"""
# Keys whose last version has gone with these DEKs.
ERASED = """
SELECT DISTINCT d.key_uuid::text AS key, d.scope FROM envelope_private.dek d
WHERE d.dek_id = ANY ($1) AND NOT EXISTS (
    SELECT FROM envelope_private.dek o
    WHERE o.key_uuid = d.key_uuid AND o.scope IS NOT DISTINCT FROM d.scope AND o.state <> 'destroyed')"""
SHOWN = 10
HINT = (
    "Was this database restored, or did a copy erase keys? SELECT * FROM envelope.replay_erasures() destroys no key"
    " that is in use without being told to; see docs/runbooks/erase.md and copies.md."
)
TOLD = ("label", "reason", "subject", "salt")


class OnStandby(errors.NotConfigured):
    sqlstate = "25006"
    text = "replay_erasures() cannot run on a standby"


class Replay(Erasure):
    """Works in the caller's transaction."""

    def __init__(self, host: Host, link: Link, destroy_active: bool = False) -> None:
        super().__init__(host, link)
        self._destroy_active = destroy_active
        self._again, self._told = 0, 0
        self._in_use: list[Row] = []

    def run(self) -> list[Row]:
        """Returns one row: the lines of the whole ledger, the DEKs of this database in it, those that lived, those that
        the catalog did not know, and those that are in use here and were left alone.

        Raises OnStandby.
        """
        if _on_standby(self._host):
            raise OnStandby(hint="Call it on the primary. The standby replays its changes.")
        self._host.run(ONE_BY_ONE)
        installation = self._host.row(INSTALLATION)
        if installation is None:
            return []
        self._refuse_copy()
        # Since the backup, some of its spares were used, and erased with their subjects.
        self._host.rows("SELECT envelope_private.drop_spares()")
        lines = self._verified(installation["uuid"])
        known: list[tuple[int, bytes]] = []
        for entry in self._entries_of(installation["uuid"]):
            known += self._replay(entry)
        if known:
            self._host.rows(SKIP_IDS, ["int8"], [max(dek_id for dek_id, _ in known)])
        self._tell_broker(set(known))
        self._name_in_use()
        return [
            {
                "ledger_lines": lines,
                "erased": len(known),
                "destroyed_again": self._again,
                "told_broker": self._told,
                "in_use": len(self._in_use),
            }
        ]

    def _verified(self, database: str) -> int:
        """Has the broker verify its whole ledger. Returns the number of its lines."""
        for _ in range(PATIENCE):
            try:
                return int(self._page(database, 0, 0, verify=True)["lines"])
            except errors.Deadline:
                continue
        raise errors.Deadline(
            "the broker did not verify its ledger in time", hint="Try again: the broker goes on with the verification."
        )

    def _page(self, database: str, after: int, most: int, *, verify: bool = False) -> wire.Message:
        return self._link.ask("erasures", database_uuid=database, after=after, most=most, verify=verify)

    def _entries_of(self, database: str) -> Iterator[wire.Message]:
        after = 0
        while entries := self._page(database, after, ENTRIES)["entries"]:
            yield from entries
            after += len(entries)

    def _replay(self, entry: wire.Message) -> list[tuple[int, bytes]]:
        """Carries out one entry of the ledger. Returns the DEKs that it names."""
        names = ("dek_id", "fingerprint", "kek", "store", "kek_version")
        deks = [dict(zip(names, dek, strict=True)) for dek in entry["deks"]]
        for dek in deks:
            dek["fingerprint"] = bytes.fromhex(dek["fingerprint"])
        alive = self._alive(deks)
        spared = set() if self._destroy_active else {row["dek_id"] for row in alive if row["is_active"]}
        self._in_use += [row | {"entry": entry} for row in alive if row["dek_id"] in spared]
        dead = [dek for dek in deks if dek["dek_id"] not in spared]
        if in_store := [dek for dek in dead if dek["store"] == "vault"]:
            # The store of the KMS may have been restored as well.
            self.ask(in_store, {name: entry[name] for name in TOLD})
        self.bury(dead, [entry] * len(dead))
        if dying := [row for row in alive if row["dek_id"] not in spared]:
            self._record(WHAT, entry["label"], self.carry_out(dying), entry["reason"])
            self._again += len(dying)
            self._clear_tokens([row["dek_id"] for row in dying])
        return [(dek["dek_id"], dek["fingerprint"]) for dek in deks]

    def _clear_tokens(self, dead: list[int]) -> None:
        """Clears the tokens that a backup has brought back."""
        for row in self._host.rows(ERASED, ["int8[]"], [dead]):
            clearing.clear(self._host, row["key"], row["scope"])

    def _alive(self, deks: list[Row]) -> list[Row]:
        values = [[dek["dek_id"] for dek in deks], [dek["fingerprint"] for dek in deks]]
        return self._host.rows(ALIVE, ["int8[]", "bytea[]"], values)

    def _name_in_use(self) -> None:
        """Warns of erased keys that are in use here. A copy of this database may have erased them."""
        if self._in_use:
            named = [_named(row) for row in self._in_use[:SHOWN]]
            more = [f"and {len(self._in_use) - SHOWN} more"] if len(self._in_use) > SHOWN else []
            self._host.warning(
                f"{len(self._in_use)} erased keys are in use here, and were left as they are",
                detail="; ".join([*named, *more]),
                hint="Did this database erase them, and was it restored since? Then SELECT * FROM"
                " envelope.replay_erasures(destroy_active => true). If a copy did it: docs/runbooks/copies.md.",
            )

    def _tell_broker(self, known: set[tuple[int, bytes]]) -> None:
        """Tells the broker what this catalog knows: its ledger may have begun later, or was lost."""
        rows = [row for row in self._host.rows(TOMBSTONES) if (row["dek_id"], row["fingerprint"]) not in known]
        for told, group in groupby(rows, key=lambda row: tuple((name, row[name]) for name in TOLD)):
            deks = list(group)
            self.ask(deks, dict(told))
            self._told += len(deks)


def _named(row: Row) -> str:
    entry = row["entry"]
    by = entry["who"].get("role", "")
    return f"{row['label']} version {row['version']} (DEK {row['dek_id']}), erased by {by} at {entry['time']}"


def check(host: Host, link: Link) -> Iterator[Row]:
    """Yields two rows of status(): whether catalog and ledger have the same number of dead DEKs, and whose keys these
    are.
    """
    installation, carried = host.row(INSTALLATION), host.row(CARRIED_OUT)
    others: list[wire.Message] = []
    if installation is None or carried is None:
        yield _row("ok", "none", None)
    else:
        try:
            told = link.ask("erasures", database_uuid=installation["uuid"], after=0, most=0, verify=False)
            others = told["others"]
            yield _agreement(host, int(told["count"]), int(carried["count"]))
        except errors.EnvelopeError as error:
            yield _row("failed", error.message, error.hint)
    yield from identity.check(host, others)


def _agreement(host: Host, ledger: int, here: int) -> Row:
    agree = ledger == here
    return _row(
        "ok" if agree else "warning",
        f"{ledger} erased keys in the broker's ledger, {here} carried out in this catalog",
        None if agree else _advice(host, ledger > here),
    )


def _advice(host: Host, ahead: bool) -> str:
    """Returns the hint. `ahead`: the ledger knows more than the catalog. On a standby nobody can replay by hand."""
    if not _on_standby(host):
        return HINT
    return LAGS if ahead else OTHER_LEDGER


def _on_standby(host: Host) -> bool:
    row = host.row(STANDBY)
    return bool(row and row["standby"])


def _row(state: str, detail: str, hint: str | None) -> Row:
    return {"check_name": "erasures", "state": state, "detail": detail, "hint": hint}
