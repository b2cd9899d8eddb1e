"""Carries out adopt(), convert() and finish_adoption(). After a kill the same call goes on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from pg_envelope import errors
from pg_envelope.backend.adoption import leftovers
from pg_envelope.backend.adoption.beginning import Adopting, kept_name
from pg_envelope.backend.adoption.converting import Converting, list_faults
from pg_envelope.backend.adoption.legacy_keys import LegacyKeys
from pg_envelope.backend.commits import begin
from pg_envelope.backend.field_options import FieldOptions
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.jobs import walker
from pg_envelope.backend.jobs.isolation import read_committed
from pg_envelope.backend.jobs.job import Job
from pg_envelope.backend.jobs.older import wait_for_readers
from pg_envelope.backend.jobs.resealing import Resealing
from pg_envelope.backend.jobs.walker import Pace, Share, Walker
from pg_envelope.backend.keys import Keys
from pg_envelope.backend.lifecycle.erasure import Erasure
from pg_envelope.backend.link import Link
from pg_envelope.backend.rollout import settling
from pg_envelope.backend.rollout.finishing import finish
from pg_envelope.backend.rollout.proofs import PROTECT
from pg_envelope.backend.rollout.start import start
from pg_envelope.backend.search import functions, place, protecting
from pg_envelope.backend.search.place import Place
from pg_envelope.backend.search.stand_ins import of_values
from pg_envelope.backend.sqltext import commas, ident, literal
from pg_envelope.backend.tables import locks
from pg_envelope.backend.tables.generate import ADOPT
from pg_envelope.backend.tables.options import ProtectArguments, Scoping
from pg_envelope.backend.tables.owner import AsOwner

OF_TABLE = """
SELECT a.field_uuid, a.legacy_key FROM envelope_private.adoption a JOIN envelope_private.field f USING (field_uuid)
WHERE f.key_uuid = $1"""
FORGET = """
DELETE FROM envelope_private.adoption a USING envelope_private.field f
WHERE f.field_uuid = a.field_uuid AND f.key_uuid = $1"""
# What is in dead rows is old ciphertext, and not plaintext.
NO_RESIDUE = "UPDATE envelope_private.key SET residue = NULL WHERE key_uuid = $1"
NEXT = (
    "The view reads old and new values. Change the applications so that they read and write values in the clear,"
    " then CALL envelope.convert(...). docs/adopt.md tells more."
)
UNIQUE = (
    "It compares values in the clear, of old rows too. Where each old value was encrypted with an IV of its own, the"
    " earlier UNIQUE never refused anything."
)
FAULTS_HINT = (
    "SELECT * FROM envelope.faults names the rows. Write each value anew through the view, or delete the row,"
    " then call it again."
)


def _by_hand(name: str, hint: str | None) -> str:
    return f"{hint or ''} Then: CALL envelope.shred_key({literal(name)}, 'its adoption is finished')".strip()


def _unneeded(found: Place, kept: list[str]) -> str | None:
    """Names the columns that hold parts of the old values. They are the user's, and may have other uses."""
    if not kept:
        return None
    told = f"Parts of the old values are still in: {commas(kept)}. If nobody else needs them"
    return f"{told}: {leftovers.statement(found, kept)}"


class NotAdopted(errors.NotProtected):
    text = "the table is not being adopted"
    default_hint = "envelope.adoption lists the columns that are. CALL envelope.adopt(...) begins."


class ValuesLeft(errors.NotConfigured):
    """Old values do not open, so their legacy key must stay."""


class Adoption:
    """Runs as a superuser, in procedures that have begun a transaction of their own."""

    def __init__(self, host: Host, link: Link, keys: Keys, legacy_keys: LegacyKeys) -> None:
        self._host, self._link, self._keys, self._legacy_keys = host, link, keys, legacy_keys

    def adopt(self, oid: int, wanted: Mapping[str, FieldOptions], way: Adopting, kek: str, store: str | None) -> None:
        """Raises what protect(online) raises, BadInput for a format or key that is not that of the values, and
        Duplicate.
        """
        begin(self._host, "adopt")
        self._rehearse(way.key_uuid)
        asked = ProtectArguments(functions.settle_all(self._host, wanted), Scoping(), kek, store)
        with read_committed(self._host):
            start(self._host, self._keys, oid, asked, way)
            self._host.commit()
            found = place.find(self._host, oid)
            protecting.tell(self._host, found.layout, of_values(self._host, found.layout), UNIQUE)
            self._host.notice(f"{found.view.sql} is being adopted", hint=NEXT)

    def convert(self, oid: int, pace: Pace, share: Share) -> None:
        """Commits as it goes; called again, it goes on. The last of several parts ends the whole.

        Raises NotAdopted, Running and Aborted.
        """
        walker.check(pace)
        walker.check_share(share)
        begin(self._host, "convert")
        with read_committed(self._host):
            found = self._place(oid)
            job = Job(self._host, found.layout.key_uuid, share.part, share.parts, what=ADOPT)
            job.start(take_over=False)
            with job.running():
                if not self._is_last(found, job, pace):
                    return
                self._resealing(found, job, pace).clean()
                job.faults = list_faults(self._host, found)
                job.complete()
            self._tell(found, job.faults)

    def _place(self, oid: int) -> Place:
        found = place.find(self._host, oid)
        if not found.layout.adopts:
            raise NotAdopted
        return found

    def _is_last(self, found: Place, job: Job, pace: Pace) -> bool:
        """Converts a part of a table, if there are several. Returns whether the whole table is now this job's."""
        if job.parts > 1:
            self._resealing(found, job, pace).walk()
        if job.done():
            return True
        self._host.notice(f"convert: part {job.part} of {job.parts} is done; {job.rows} rows were converted")
        return False

    def _resealing(self, found: Place, job: Job, pace: Pace) -> Resealing:
        owner = AsOwner(self._host, found.base.owner_oid)
        walks = Walker(self._host, found.key, job, pace)
        return Resealing(self._host, owner, found.layout, found.key, job, walks, partial(Converting, found.layout))

    def _tell(self, found: Place, faults: int) -> None:
        if faults:
            self._host.warning(f"convert: {faults} old values of {found.view.sql} do not open", hint=FAULTS_HINT)
        else:
            self._host.notice(
                f"convert: no old value of {found.view.sql} is left", hint="CALL envelope.finish_adoption(...) ends it."
            )

    def finish(self, oid: int, pace: Pace, destroy_key: bool, drop_parts: bool) -> None:
        """Raises ValuesLeft while values do not open, PartsUsed, and what convert() raises."""
        walker.check(pace)
        begin(self._host, "finish_adoption")
        with read_committed(self._host):
            found = self._place(oid)
            used = [row["legacy_key"] for row in self._adopted(found)]
            parts = leftovers.names(self._host, found)
            if drop_parts:
                leftovers.check(self._host, found, parts)
            job = Job(self._host, found.layout.key_uuid, what=ADOPT)
            job.start(take_over=False)
            with job.running():
                dropped = self._end(found, job, pace, drop_parts)
                job.complete()
            kept = [name for name in parts if name not in dropped]
            self._host.notice(f"{found.view.sql} is protected, and no old value is left", hint=_unneeded(found, kept))
            if destroy_key:
                self._destroy(used)

    def _adopted(self, found: Place) -> list[Row]:
        return self._host.rows(OF_TABLE, ["uuid"], [found.layout.key_uuid])

    def _end(self, found: Place, job: Job, pace: Pace, drop_parts: bool) -> list[str]:
        """Returns the columns that are dropped with the last old values."""
        self._resealing(found, job, pace).clean()
        if faults := list_faults(self._host, found):
            self._host.commit()
            raise ValuesLeft(f"{faults} old values of {found.view.sql} do not open", hint=FAULTS_HINT)
        self._host.commit()
        settling.settle(self._host, found.oid, PROTECT)
        settling.prove(self._host, found.oid, PROTECT, job)
        wait_for_readers(self._host, job, "the last envelopes")
        found = self._locked(found)
        dropped = leftovers.names(self._host, found) if drop_parts else []
        self._forget(found)
        finish(self._host, found.oid, PROTECT)
        self._host.rows(NO_RESIDUE, ["uuid"], [found.layout.key_uuid])
        if dropped:
            leftovers.drop(self._host, found, dropped)
        return dropped

    def _locked(self, found: Place) -> Place:
        """Returns the table as it is under the locks of the last step: a column may have another name by now."""
        locks.briefly(self._host, found.view.sql, found.base.sql)
        return self._place(found.oid)

    def _forget(self, found: Place) -> None:
        self._host.rows(FORGET, ["uuid"], [found.layout.key_uuid])
        for name in found.layout.protected:
            self._host.run(f"ALTER TABLE {found.base.sql} DROP CONSTRAINT IF EXISTS {ident(kept_name(name))}")

    def _rehearse(self, key_uuid: str) -> None:
        """Warns where the legacy key could not be destroyed at the end, as long as that can be mended."""
        erasure = Erasure(self._host, self._link)
        for name in self._legacy_keys.unused([key_uuid]):
            try:
                erasure.rehearse(erasure.of_name(name))
            except errors.EnvelopeError as error:
                said = f"legacy key {name} could not be destroyed at the end of the adoption: {error.said}"
                self._host.warning(said, hint=error.hint)

    def _destroy(self, key_uuids: list[str]) -> None:
        """Destroys the legacy keys that no other column needs. Backups of before can then not be read with them."""
        erasure = Erasure(self._host, self._link)
        for name in self._legacy_keys.unused(key_uuids):
            try:
                self._legacy_keys.forget(name)
                erasure.shred("shred_key", erasure.of_name(name), None, "its adoption is finished")
            except errors.EnvelopeError as error:
                # The adoption is at its end. Nobody needs the key any more, and it does no harm where it is.
                self._host.rollback()
                self._host.warning(f"legacy key {name} is not destroyed: {error.said}", hint=_by_hand(name, error.hint))
