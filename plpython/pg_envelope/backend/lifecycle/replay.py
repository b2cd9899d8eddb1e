"""replay_erasures(): after a restore, what the broker's ledger says is dead dies again; and status() watches."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from pg_envelope import errors, wire
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.lifecycle.batches import ONE_BY_ONE
from pg_envelope.backend.lifecycle.erasure import Erasure
from pg_envelope.backend.link import Link
from pg_envelope.backend.loader import Loader

WHAT = "replay_erasures"
# A long ledger takes the broker longer to verify than one request may last.
PATIENCE = 30
ENTRIES = 500
INSTALLATION = "SELECT database_uuid::text AS uuid FROM envelope_private.installation"
STANDBY = "SELECT pg_is_in_recovery() AS standby"
REPLAY = "SELECT envelope.replay_erasures(); see docs/runbooks/erase.md."
LAGS = "This standby has not replayed them yet. If that lasts, see why it lags: pg_last_xact_replay_timestamp()."
OTHER_LEDGER = (
    "This standby's broker has a ledger of its own, which lacks them: pg-envelope erasures export on the primary's"
    " broker, import on this one; see docs/runbooks/erase.md."
)
ALIVE = """
SELECT d.dek_id, d.fingerprint, d.kek, d.store, d.kek_version FROM envelope_private.dek d
JOIN unnest($1::bigint[], $2::bytea[]) AS n (dek_id, fingerprint) USING (dek_id, fingerprint)
WHERE d.state <> 'destroyed'"""
SKIP_IDS = """
SELECT setval('envelope_private.dek_id_seq', $1) WHERE $1 > (SELECT last_value FROM envelope_private.dek_id_seq)"""
# Tombstones whose DEK does not live in the catalog: what has been carried out.
CARRIED_OUT = """
SELECT count(*) AS count FROM envelope_private.tombstone t WHERE NOT EXISTS (
    SELECT FROM envelope_private.dek d
    WHERE d.dek_id = t.dek_id AND d.fingerprint = t.fingerprint AND d.state <> 'destroyed')"""
TOMBSTONES = """
SELECT dek_id, fingerprint, kek, store, kek_version, label, reason, encode(subject, 'hex') AS subject,
    encode(salt, 'hex') AS salt
FROM envelope_private.tombstone ORDER BY label, reason, subject, salt, dek_id"""
TOLD = ("label", "reason", "subject", "salt")


class OnStandby(errors.NotConfigured):
    sqlstate = "25006"
    text = "replay_erasures() cannot run on a standby"


class Replay(Erasure):
    """In the caller's transaction."""

    def __init__(self, host: Host, link: Link, loader: Loader) -> None:
        super().__init__(host, link, loader)
        self._again, self._told = 0, 0

    def run(self) -> list[Row]:
        """One row: lines of the whole ledger, DEKs of this database in it, those that lived, those it did not know.

        Raises OnStandby.
        """
        row = self._host.row(STANDBY)
        if row and row["standby"]:
            raise OnStandby(hint="Call it on the primary; what it does there is replayed here.")
        self._host.run(ONE_BY_ONE)
        installation = self._host.row(INSTALLATION)
        if installation is None:
            return []
        lines = self._verified(installation["uuid"])
        known: list[tuple[int, bytes]] = []
        for entry in self._entries_of(installation["uuid"]):
            known += self._replay(entry)
        if known:
            self._host.rows(SKIP_IDS, ["bigint"], [max(dek_id for dek_id, _ in known)])
        self._tell_broker(set(known))
        return [
            {
                "ledger_lines": lines,
                "erased": len(known),
                "destroyed_again": self._again,
                "told_broker": self._told,
            }
        ]

    def _verified(self, database: str) -> int:
        """How many lines the ledger has, all of them verified."""
        for _ in range(PATIENCE):
            try:
                return int(self._page(database, 0, 0, verify=True)["lines"])
            except errors.Deadline:
                continue
        raise errors.Deadline("the broker did not verify its ledger in time", hint="Try again: it goes on with it.")

    def _page(self, database: str, after: int, most: int, *, verify: bool = False) -> wire.Message:
        who = self._loader.who()
        return self._link.ask("erasures", who, database_uuid=database, after=after, most=most, verify=verify)

    def _entries_of(self, database: str) -> Iterator[wire.Message]:
        after = 0
        while entries := self._page(database, after, ENTRIES)["entries"]:
            yield from entries
            after += len(entries)

    def _replay(self, entry: wire.Message) -> list[tuple[int, bytes]]:
        """Carries out one entry of the ledger; the DEKs that it names."""
        names = ("dek_id", "fingerprint", "kek", "store", "kek_version")
        deks = [dict(zip(names, dek, strict=True)) for dek in entry["deks"]]
        for dek in deks:
            dek["fingerprint"] = bytes.fromhex(dek["fingerprint"])
        found = [(dek["dek_id"], dek["fingerprint"]) for dek in deks]
        alive = self._host.rows(ALIVE, ["bigint[]", "bytea[]"], [[one[0] for one in found], [one[1] for one in found]])
        if in_store := [dek for dek in deks if dek["store"] == "vault"]:
            # Its store may have been restored as well.
            self.ask(in_store, {name: entry[name] for name in TOLD})
        self.bury(deks, [entry] * len(deks))
        if alive:
            self._record(WHAT, entry["label"], self.carry_out(alive), entry["reason"])
        self._again += len(alive)
        return found

    def _tell_broker(self, known: set[tuple[int, bytes]]) -> None:
        """A broker whose ledger began later, or was lost, learns what this catalog knows."""
        rows = [row for row in self._host.rows(TOMBSTONES) if (row["dek_id"], row["fingerprint"]) not in known]
        for told, group in groupby(rows, key=lambda row: tuple((name, row[name]) for name in TOLD)):
            deks = list(group)
            self.ask(deks, dict(told))
            self._told += len(deks)


def check(host: Host, link: Link, loader: Loader) -> Row:
    """The row of status(): whether catalog and ledger agree on how many DEKs are dead."""
    installation, carried = host.row(INSTALLATION), host.row(CARRIED_OUT)
    if installation is None or carried is None:
        return {"check_name": "erasures", "state": "ok", "detail": "none", "hint": None}
    who = loader.who()
    try:
        told = link.ask("erasures", who, database_uuid=installation["uuid"], after=0, most=0, verify=False)
    except errors.EnvelopeError as error:
        return {"check_name": "erasures", "state": "failed", "detail": error.message, "hint": error.hint}
    ledger, here = int(told["count"]), int(carried["count"])
    agree = ledger == here
    return {
        "check_name": "erasures",
        "state": "ok" if agree else "warning",
        "detail": f"{ledger} erased keys in the broker's ledger, {here} carried out in this catalog",
        "hint": None if agree else _advice(host, ledger > here),
    }


def _advice(host: Host, ahead: bool) -> str:
    """`ahead`: the ledger knows more. On a standby nothing can be replayed by hand."""
    row = host.row(STANDBY)
    if not (row and row["standby"]):
        return REPLAY
    return LAGS if ahead else OTHER_LEDGER
