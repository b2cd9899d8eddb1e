"""Rewraps DEKs in committed batches through the broker's `rewrap`, for rotate_kek(), rewrap() and move_kek()."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

from pg_envelope import errors, wire
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.keys import STORES
from pg_envelope.backend.lifecycle import makers
from pg_envelope.backend.link import Link, not_understood

# One request to the broker carries so many DEKs. A DEK in store vault costs a read and a write of its own there.
BATCH = {"catalog": 200, "vault": 50}
SMALLEST_BATCH = 10
NOTICE_SECONDS = 1.0
# These errors are about one DEK. Any other error would meet the next batch as well.
OF_ONE_DEK = (errors.UnwrapFailed, errors.KeyNotFound, errors.KeyDestroyed, errors.StoreConflict)
# These say that a key is not where it was.
GONE = (errors.UnwrapFailed, errors.KeyNotFound, errors.KekUnknown)
RESTORED = (
    "Was the KMS restored to an earlier state? Then do not flush, do not restart the broker, and run"
    " pg-envelope keys-backup make now: docs/runbooks/restore.md."
)
# Smaller requests may go through.
TOO_SLOW = (errors.Deadline, errors.KmsBusy)
SHOWN = 10

# Only one batch runs at a time in the whole database. The lock comes before a transaction's first snapshot, so that the
# transaction sees what the one before it wrote, at any isolation level. Nobody without rights on the table can hold up
# the others.
ONE_BY_ONE = "LOCK TABLE envelope_private.installation IN SHARE UPDATE EXCLUSIVE MODE"
INSTALLATION = "SELECT database_uuid::text AS uuid FROM envelope_private.installation"

Answered = tuple[Row, wire.Message]


class DeksLeft(errors.Unavailable):
    """Some DEKs could not be brought to the new place."""

    default_hint = None


class Batches(ABC):
    """Passes over the DEKs that are not yet in the new place. The next batch no longer finds those that are done."""

    done_word = "rewrapped"

    def __init__(self, host: Host, link: Link, what: str) -> None:
        self._host, self._link, self._what = host, link, what
        self._sizes = dict(BATCH)
        self._failed: dict[int, errors.EnvelopeError] = {}
        self._total, self._done, self._told = 0, 0, time.monotonic()

    @property
    @abstractmethod
    def _again(self) -> str:
        """The statement that goes on after an error."""

    @abstractmethod
    def _behind(self) -> int:
        """Returns how many DEKs are left."""

    @abstractmethod
    def _next(self, store: str, last: int, size: int) -> list[Row]:
        """Returns the first `size` DEKs of a store whose ids are above `last`."""

    @abstractmethod
    def _places(self, store: str) -> dict[str, str]:
        """Returns the request's members that tell the old and the new place."""

    @abstractmethod
    def _write(self, store: str, good: list[Answered]) -> int:
        """Writes the new wraps to the catalog, over rows that are still as they were read. Returns how many rows
        changed.
        """

    @abstractmethod
    def _finish(self) -> None:
        """Tells what was done, or raises DeksLeft."""

    def run(self) -> None:
        """Raises the error that stopped it, or DeksLeft. What is committed stays done, and the next call goes on from
        there.
        """
        self._total = self._behind()
        self._host.commit()
        try:
            self._pass()
            self._wait_for_new_deks()
            self._pass()
        except errors.EnvelopeError as error:
            so_far = f"{self._done} of {self._total} DEKs were {self.done_word} before; the others are as they were"
            error.detail = f"{error.detail}; {so_far}" if error.detail else so_far
            error.hint = words(error.hint, restored(error), f"To go on: {self._again}.")
            raise
        self._finish()

    def _wait_for_new_deks(self) -> None:
        """Waits for sessions that got a DEK from the broker before the KEK was changed.

        Such a session holds a lock on the table of DEKs until its DEK can be seen here.
        """
        self._drop_spares()
        self._host.commit()
        makers.wait(self._host, self._host.commit, self._what)
        # A transaction that was rolled back meanwhile gave spares back. The batch waits for a session that takes one of
        # them.
        while self._drop_spares():
            self._host.commit()
            makers.wait(self._host, self._host.commit, self._what)
        self._host.commit()

    def _drop_spares(self) -> int:
        """Drops the spares under the old KEK or version. Returns how many there were."""
        return 0

    def _pass(self) -> None:
        for store in STORES:
            last = 0
            while (reached := self._batch(store, last)) is not None:
                last = reached
                self._tell()

    def _batch(self, store: str, last: int) -> int | None:
        """Rewraps the DEKs after `last`, and commits. Returns the id of the last one, or None when there are none."""
        self._host.run(ONE_BY_ONE)
        installation = self._host.row(INSTALLATION)
        size = self._sizes[store]
        rows = self._next(store, last, size)
        stopped: errors.EnvelopeError | None = None
        if installation and rows:
            stopped = self._ask_and_write(str(installation["uuid"]), store, rows)
        self._host.commit()
        if isinstance(stopped, TOO_SLOW) and size > SMALLEST_BATCH:
            self._sizes[store] = max(SMALLEST_BATCH, size // 2)
            return last
        if stopped is not None:
            raise stopped
        return int(rows[-1]["dek_id"]) if rows else None

    def _ask_and_write(self, database: str, store: str, rows: list[Row]) -> errors.EnvelopeError | None:
        """Writes what the broker wrapped anew. Returns the error that stops all other DEKs, if there is one."""
        try:
            answers = self._asked(database, store, rows)
        except errors.EnvelopeError as error:
            return error
        good = [(row, answer) for row, answer in answers if "error" not in answer]
        self._done += self._write(store, good)
        for row, _ in good:
            self._failed.pop(row["dek_id"], None)
        refused = {row["dek_id"]: wire.error_from(answer["error"]) for row, answer in answers if "error" in answer}
        own = {dek_id: error for dek_id, error in refused.items() if isinstance(error, OF_ONE_DEK)}
        self._failed.update(own)
        return next((error for dek_id, error in refused.items() if dek_id not in own), None)

    def _asked(self, database: str, store: str, rows: list[Row]) -> list[Answered]:
        deks = [
            {
                "dek_id": row["dek_id"],
                "wrapped": row["wrapped"],
                "fingerprint": wire.to_base64(row["fingerprint"]),
            }
            for row in rows
        ]
        places = self._places(store)
        answer = self._link.ask("rewrap", database_uuid=database, deks=deks, **places)["deks"]
        answered = list(zip(rows, answer, strict=False))
        if len(answer) != len(rows) or not all(_fits(row, found, places["store"]) for row, found in answered):
            raise not_understood()
        return answered

    def _tell(self) -> None:
        if time.monotonic() - self._told > NOTICE_SECONDS:
            self._host.notice(f"{self._what}: {self._done} of {max(self._done, self._total)} DEKs {self.done_word}")
            self._told = time.monotonic()

    def _restored(self) -> str:
        """The hint where a DEK is not what or where it was."""
        return next(filter(None, map(restored, self._failed.values())), "")

    def _causes(self) -> str:
        """Returns a text: how many were done, and why the first ten of the others failed."""
        causes = [f"DEK {dek_id}: {error.message}" for dek_id, error in sorted(self._failed.items())]
        more = [f"and {len(causes) - SHOWN} more"] if len(causes) > SHOWN else []
        return "; ".join([f"{self._done} were {self.done_word}", *causes[:SHOWN], *more])


def restored(error: errors.EnvelopeError) -> str:
    """Returns a hint if the KMS may have been put back to an earlier state, and an empty text for other errors."""
    return RESTORED if isinstance(error, GONE) else ""


def words(*parts: str | None) -> str:
    """Joins the parts of a hint that are not empty."""
    return " ".join(filter(None, parts))


def _fits(row: Row, found: wire.Message, store: str) -> bool:
    """Tells whether an answer is about this DEK, and holds a new wrap where the catalog keeps it."""
    return found["dek_id"] == row["dek_id"] and ("error" in found or (found["wrapped"] is None) == (store != "catalog"))
