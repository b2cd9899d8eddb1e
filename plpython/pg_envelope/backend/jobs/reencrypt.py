"""Carries out reencrypt() for one part of a table, or all of it.

The last part checks the whole and makes the receipt.
"""

from __future__ import annotations

from functools import partial

from pg_envelope import errors
from pg_envelope.backend.commits import begin
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.jobs import walker
from pg_envelope.backend.jobs.isolation import read_committed
from pg_envelope.backend.jobs.job import Job
from pg_envelope.backend.jobs.older import wait_for_older
from pg_envelope.backend.jobs.receipt import Receipts
from pg_envelope.backend.jobs.resealing import Resealing
from pg_envelope.backend.jobs.stale import stale
from pg_envelope.backend.jobs.walker import Pace
from pg_envelope.backend.lifecycle.signing import Signing
from pg_envelope.backend.tables import catalog, inspect, whole
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.typed import Any

MEND = "Write each value anew through the view, or delete the row; docs/runbooks/bad-values.md says how."


class Reencryption:
    """Re-encrypts one table, found by its view or base table. Raises NotProtected."""

    def __init__(self, host: Host, signing: Signing, oid: int) -> None:
        self._host, self._signing = host, signing
        self._key, self._layout, self._owner = _read(host, oid)
        self._receipts = Receipts(host, self._owner, self._layout, self._key)

    def run(self, pace: Pace, part: int = 1, parts: int = 1, take_over: bool = False) -> None:
        """Re-encrypts in committed batches; what is committed stays done.

        `take_over` makes other sessions stop their work on this table.
        """
        _check(pace, part, parts)
        begin(self._host, "reencrypt")
        with read_committed(self._host):
            statement = self._run(Job(self._host, str(self._key["key_uuid"]), part, parts), pace, take_over)
            if statement is not None:
                self._receipts.keep(self._signing, statement)
                self._host.commit()

    def _run(self, job: Job, pace: Pace, take_over: bool) -> dict[str, Any] | None:
        """Returns the statement for the receipt, or None when other parts are not done yet."""
        walks = walker.Walker(self._host, self._key, job, pace)
        old = partial(stale, self._host, self._layout, self._key)
        resealing = Resealing(self._host, self._owner, self._layout, self._key, job, walks, old)
        job.start(take_over)
        with job.running():
            if job.parts > 1:
                resealing.walk()
            if not job.done():
                self._host.notice(
                    f"reencrypt: part {job.part} of {job.parts} is done; {job.rows} rows were re-encrypted"
                )
                return None
            statement = self._finished(resealing, job)
            job.faults = statement["left"]
            rows = job.complete()
        self._tell(rows, statement["left"])
        return statement

    def _tell(self, rows: int, left: int) -> None:
        """Tells how it ended, without row keys: they are for readers of the table only, and this notice goes to the
        server's log, too.
        """
        done = f"{rows} rows were re-encrypted"
        if left:
            self._host.warning(
                f"reencrypt: values of {self._layout.view} that do not open, and stay as they are: {left}; {done}",
                hint=f"SELECT * FROM envelope.faults names the rows. {MEND}",
            )
        else:
            self._host.notice(f"reencrypt: all values of {self._layout.view} have the newest key version; {done}")

    def receipt(self) -> str:
        """Makes a receipt of the present state, with a warning when values are left that do not open.

        Raises OldValues.
        """
        statement = self._receipts.scan()
        if statement is None:
            raise OldValues(
                f"{self._layout.view} has values under an old key version", hint="CALL envelope.reencrypt(...) first."
            )
        if statement["left"]:
            self._host.warning(
                f"receipt: it proves nothing for values of {self._layout.view} that do not open: {statement['left']}",
                hint=f"SELECT * FROM envelope.faults names the rows. {MEND}",
            )
        return self._receipts.keep(self._signing, statement)

    def _finished(self, resealing: Resealing, job: Job) -> dict[str, Any]:
        """Repeats until a scan finds nothing old: rows may have moved between parts, and a rotation may come at any
        time.
        """
        resealing.clean()
        if wait_for_older(self._host, str(self._key["key_uuid"]), job):
            resealing.clean()
        while (statement := self._receipts.scan()) is None:
            self._host.commit()
            resealing.clean()
        return statement


class OldValues(errors.NotConfigured):
    """Some values are under an old key version."""


def _check(pace: Pace, part: int, parts: int) -> None:
    """Checks the arguments. Raises BadInput."""
    walker.check(pace)
    walker.check_share(walker.Share(part, parts))


def _read(host: Host, oid: int) -> tuple[Row, Layout, AsOwner]:
    key = catalog.key_of(host, oid)
    table = inspect.inspect(host, key["base"])
    layout = catalog.layout_of(host, key, table)
    whole.refuse_missing(host, key, layout)
    return key, layout, AsOwner(host, table.owner_oid)
