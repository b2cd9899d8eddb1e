"""Carries out rotate_kek() and rewrap(), which commit as they work, so that a crash costs one batch at most."""

from __future__ import annotations

from pg_envelope import errors, wire
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.lifecycle.batches import INSTALLATION, Answered, Batches, DeksLeft, restored, words
from pg_envelope.backend.link import Link
from pg_envelope.backend.sqltext import literal

BEHIND = """
envelope_private.dek
WHERE kek = $1 AND state <> 'destroyed' AND ($2 IS NULL OR kek_version IS NULL OR kek_version < $2)"""
COUNT = f"SELECT count(*) AS found FROM {BEHIND}"
NEXT = f"""
SELECT dek_id, wrapped, fingerprint, kek_version
FROM {BEHIND} AND store = $3 AND dek_id > $4 ORDER BY dek_id LIMIT $5"""
ROTATED = """
INSERT INTO envelope_private.kek_rotation (kek, kek_version, rotated_at) VALUES ($1, $2, now())
ON CONFLICT (kek) DO UPDATE SET kek_version = excluded.kek_version, rotated_at = excluded.rotated_at"""
NEWEST = "SELECT max(kek_version) AS version FROM envelope_private.dek WHERE kek = $1 AND state <> 'destroyed'"
# DEKs that the KEK's newest version wrapped. If none of them opens, the KMS has another key version of that number.
SAMPLE = """
SELECT dek_id, store, wrapped, fingerprint, kek_version FROM envelope_private.dek
WHERE kek = $1 AND state <> 'destroyed' AND kek_version = $2 ORDER BY store = $3 DESC, dek_id DESC LIMIT $4"""
SAMPLED = 5
DROP_SPARES = "SELECT envelope_private.drop_spares($1, $2) AS found"
DESTROYED = "SELECT count(*) AS found FROM envelope_private.dek WHERE kek = $1 AND state = 'destroyed'"
# A row is written only if it is as it was read. A DEK that was moved or destroyed meanwhile stays as it is.
KEEP = """
UPDATE envelope_private.dek d SET wrapped = n.wrapped, kek_version = n.kek_version
FROM unnest($3::bigint[], $4::text[], $5::text[], $6::int4[]) AS n (dek_id, old, wrapped, kek_version)
WHERE d.dek_id = n.dek_id AND d.kek = $1 AND d.store = $2 AND d.state <> 'destroyed'
    AND d.wrapped IS NOT DISTINCT FROM n.old RETURNING d.dek_id"""


class Rewrap(Batches):
    """Brings the DEKs of one KEK to its newest version.

    The first answer of the broker tells that version, if need be.
    """

    def __init__(self, host: Host, link: Link, kek: str, what: str) -> None:
        super().__init__(host, link, what)
        self._kek = kek
        self._newest: int | None = None
        # A version's number does not prove that its wraps open: a KMS that was restored gives the same number again.
        self._proving = True

    def rotate(self) -> None:
        """Makes a new version of the KEK. DEKs under older versions open as before. Raises KekRolledBack."""
        known = self._known()
        try:
            self._prove_sample(known)
            self._newest = int(self._link.ask("rotate_kek", kek=self._kek, kek_version=known)["kek_version"])
        except (errors.Deadline, errors.KmsUnavailable) as error:
            error.hint = words(error.hint, f"No DEK was changed. If the KEK was rotated: {self._again}.")
            raise
        except errors.KekUnknown as error:
            error.hint = words(error.hint, restored(error) if known else None)
            raise
        # From now on, the KMS as it is has wrapped and opened every DEK that has this version.
        self._proving = False
        self._host.rows(ROTATED, ["text", "int4"], [self._kek, self._newest])
        self._host.notice(f"{self._what}: KEK {self._kek} has version {self._newest}")

    def _known(self) -> int:
        row = self._host.row(NEWEST, ["text"], [self._kek])
        return int(row["version"] or 0) if row else 0

    def _prove_sample(self, known: int) -> None:
        """Raises KekRolledBack when none of the DEKs opens that the newest known version has wrapped."""
        rows = self._host.rows(SAMPLE, ["text", "int4", "text", "int4"], [self._kek, known, "catalog", SAMPLED])
        installation = self._host.row(INSTALLATION)
        if not rows or installation is None:
            return
        store = rows[0]["store"]
        answers = self._asked(str(installation["uuid"]), store, [row for row in rows if row["store"] == store])
        failed = [wire.error_from(answer["error"]) for _, answer in answers if "error" in answer]
        if len(failed) == len(answers) and all(isinstance(error, errors.UnwrapFailed) for error in failed):
            raise errors.KekRolledBack(
                f"no DEK under version {known} of KEK {self._kek} opens: the KMS has another version of that number"
            )

    def _pass(self) -> None:
        super()._pass()
        self._proving = False

    @property
    def _again(self) -> str:
        return f"CALL envelope.rewrap({literal(self._kek)})"

    def _behind(self) -> int:
        row = self._host.row(COUNT, ["text", "int4"], [self._kek, self._newest])
        return int(row["found"]) if row else 0

    def _next(self, store: str, last: int, size: int) -> list[Row]:
        types = ["text", "int4", "text", "int8", "int4"]
        least = None if self._proving else self._newest
        return self._host.rows(NEXT, types, [self._kek, least, store, last, size])

    def _places(self, store: str) -> dict[str, str]:
        return {"kek": self._kek, "store": store}

    def _write(self, store: str, good: list[Answered]) -> int:
        moved = [(row, answer) for row, answer in good if row["kek_version"] != answer["kek_version"]]
        columns = [
            [row["dek_id"] for row, _ in moved],
            [row["wrapped"] for row, _ in moved],
            [answer["wrapped"] for _, answer in moved],
            [answer["kek_version"] for _, answer in moved],
        ]
        types = ["text", "text", "int8[]", "text[]", "text[]", "int4[]"]
        self._newest = max([self._newest or 0, *(answer["kek_version"] for _, answer in good)]) or None
        return len(self._host.rows(KEEP, types, [self._kek, store, *columns]))

    def _drop_spares(self) -> int:
        row = self._host.row(DROP_SPARES, ["text", "int4"], [self._kek, self._newest])
        return int(row["found"]) if row and self._newest else 0

    def _finish(self) -> None:
        behind = self._behind()
        if behind:
            raise DeksLeft(
                f"{behind} DEKs are still under an old version of KEK {self._kek}",
                detail=self._causes(),
                hint=words(
                    self._restored(),
                    f"Old KEK versions must stay until this succeeds: {self._again}. envelope.keys shows dek_id.",
                ),
            )
        if self._failed:
            raise DeksLeft(
                f"{len(self._failed)} DEKs do not open under KEK {self._kek}",
                detail=self._causes(),
                hint=words(self._restored(), "envelope.keys shows dek_id."),
            )
        row = self._host.row(DESTROYED, ["text"], [self._kek])
        destroyed = f", {row['found']} destroyed ones passed over" if row and row["found"] else ""
        newest = f"all DEKs have version {self._newest}" if self._newest else "there are no DEKs"
        self._host.notice(f"{self._what}: KEK {self._kek}: {newest}; {self._done} were rewrapped{destroyed}")
