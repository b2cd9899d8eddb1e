"""Carries out protect() and unprotect() with online => true, step by step, while the table is in use.

Each step is committed, and can be found in the catalogs: after a kill the same call goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from pg_envelope import errors
from pg_envelope.backend.commits import begin
from pg_envelope.backend.field_options import FieldOptions
from pg_envelope.backend.host import Host, Row, Undone
from pg_envelope.backend.jobs import walker
from pg_envelope.backend.jobs.isolation import read_committed
from pg_envelope.backend.jobs.job import Aborted, Job
from pg_envelope.backend.jobs.older import wait_for_readers
from pg_envelope.backend.jobs.resealing import Resealing
from pg_envelope.backend.jobs.walker import Pace, Walker
from pg_envelope.backend.keys import Keys
from pg_envelope.backend.link import Link
from pg_envelope.backend.rollout import fitness, plain_indexes, settling, tokens
from pg_envelope.backend.rollout.finishing import finish, tell
from pg_envelope.backend.rollout.joining import join
from pg_envelope.backend.rollout.proofs import PROTECT, UNPROTECT
from pg_envelope.backend.rollout.ready_keys import Fetch, ReadyKeys
from pg_envelope.backend.rollout.start import start
from pg_envelope.backend.rollout.turning import turn
from pg_envelope.backend.rollout.work import WORK
from pg_envelope.backend.search import functions, place
from pg_envelope.backend.search.place import Place
from pg_envelope.backend.sqltext import literal
from pg_envelope.backend.tables import catalog, dependents, locks, opening, upsert
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.inspect import Column
from pg_envelope.backend.tables.options import ProtectArguments, Scoping
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.backend.tables.unprotect import carryable
from pg_envelope.records import replace

BACK = {PROTECT: UNPROTECT, UNPROTECT: PROTECT}
MADE = {PROTECT: "the last envelopes", UNPROTECT: "the last values in the clear"}


class Rollout:
    """Runs as a superuser, in procedures. `fetch` fetches keys of tenants and subjects."""

    def __init__(self, host: Host, link: Link, keys: Keys, fetch: Fetch) -> None:
        self._host, self._link, self._keys, self._fetch = host, link, keys, fetch

    def protect(self, oid: int, asked: ProtectArguments, pace: Pace) -> None:
        """Commits as it goes; called again, it goes on. Raises what protect() raises, Running and Aborted."""
        walker.check(pace)
        begin(self._host, PROTECT)
        asked = replace(asked, wanted=functions.settle_all(self._host, asked.wanted))
        with read_committed(self._host):
            if not _goes_on(self._host, oid, asked):
                is_protected = self._host.row(catalog.KEY, ["oid"], [oid]) is not None
                (join if is_protected else start)(self._host, self._keys, oid, asked)
                self._host.commit()
            self._roll(oid, PROTECT, pace)

    def unprotect(self, oid: int, damaged: str, columns: Sequence[str] | None, pace: Pace) -> None:
        """Commits as it goes; called again, it goes on. It takes an unfinished protect(online) back.

        Without the other `columns`, if some are named, the table stays protected.

        Raises what unprotect() raises, Running and Aborted.
        """
        opening.check(damaged)
        walker.check(pace)
        begin(self._host, UNPROTECT)
        with read_committed(self._host):
            found = place.find(self._host, oid)
            upsert.refuse_allowed(found)
            leaving = _leaving(found, columns)
            fitness.check_unprotect(self._host, found, damaged, leaving)
            _rehearse(self._host, found, leaving)
            self._roll(oid, UNPROTECT, pace, leaving)

    def _roll(self, oid: int, act: str, pace: Pace, columns: Sequence[str] = ()) -> None:
        """Goes on to the end. When another session aborts it, it goes back to where it began, and raises Aborted."""
        base = place.find(self._host, oid).base.oid
        try:
            self._go_on(base, act, pace, columns)
        except Aborted:
            self._host.notice(f"{act}(online) was aborted, and goes back now")
            self._go_on(base, BACK[act], pace)
            raise

    def _go_on(self, oid: int, act: str, pace: Pace, columns: Sequence[str] = ()) -> None:
        host = self._host
        if act == PROTECT:
            tokens.fill_all(host, oid, pace)
        found = place.find(host, oid)
        job = Job(host, found.layout.key_uuid, what="online")
        job.start(take_over=False)
        with job.running():
            turn(host, oid, act, columns)
            job.commit()
            self._convert(oid, act, job, pace)
            settling.settle(host, oid, act)
            # A row may have been written between the last look and the constraints.
            self._convert(oid, act, job, pace)
            settling.prove(host, oid, act, job)
            if act == UNPROTECT:
                plain_indexes.make(host, oid)
            wait_for_readers(host, job, MADE[act])
            before = finish(host, oid, act)
            job.complete()
        tell(host, before, act)

    def _convert(self, oid: int, act: str, job: Job, pace: Pace) -> None:
        """Brings all rows to their last form, in committed batches. Raises Damaged where values do not open."""
        host = self._host
        found = place.find(host, oid)
        owner = AsOwner(host, found.base.owner_oid)
        walks = Walker(host, found.key, job, pace)
        work = partial(WORK[act], found.layout)
        Resealing(host, owner, found.layout, found.key, job, walks, work, self._ready(found, act, job)).clean()
        if act == UNPROTECT:
            opening.refuse_damaged(owner, found.layout.of_rollout())
            host.commit()

    def _ready(self, found: Place, act: str, job: Job) -> Callable[[str, str], None] | None:
        if found.layout.scope_column is None:
            return None
        return ReadyKeys(self._host, self._link, self._fetch, found, job, act).have


def _goes_on(host: Host, oid: int, asked: ProtectArguments) -> bool:
    """Tells whether a roll-out is under way. Raises NotConfigured if that is one of other columns or scopes."""
    key, wanted = host.row(catalog.KEY, ["oid"], [oid]), asked.wanted
    if key is None or not key["rollout"]:
        return False
    layout = place.find(host, oid).layout
    under_way = {name: found.options for name, found in layout.in_rollout.items()}
    sealing = {name: replace(options, search=(), drops_indexes=False) for name, options in wanted.items()}
    scoped = _scoped(host, key, asked.scoping) or (bool(layout.staying) and asked.scoping == Scoping())
    if under_way != sealing or not _searched(layout, wanted) or not scoped:
        raise errors.NotConfigured(
            f"{key['view_name']} is being protected with other columns or options",
            detail=", ".join(under_way),
            hint="Call it with those again, or take it back: CALL envelope.unprotect(..., online => true).",
        )
    return True


def _scoped(host: Host, key: Row, scoping: Scoping) -> bool:
    """Tells whether the table has the scope that was asked for."""
    origin = key["key_uuid"] if scoping.of is None else catalog.key_of(host, scoping.of)["scope_key"]
    there = key["scope"], key["scope_column"], key["erased"], key["scope_key"]
    return there == (scoping.kind, scoping.column, scoping.erased, origin)


def _searched(layout: Layout, wanted: Mapping[str, FieldOptions]) -> bool:
    """Tells whether the search columns are there that were asked for. Those that indexes ask for are there, too."""
    there = {(one.source, one.name, one.normalizer, one.is_unique) for one in layout.searches.values()}
    asked = ((name, one.name, one.normalize, one.unique) for name, options in wanted.items() for one in options.search)
    return there.issuperset(asked)


def _leaving(found: Place, columns: Sequence[str] | None) -> list[str]:
    """Returns the columns that will be plain: all, if none are named. Raises NotConfigured, NotProtected."""
    there = found.layout.in_rollout if found.key["rollout"] else found.layout.protected
    asked = list(found.layout.protected if columns is None else columns)
    if found.key["rollout"] and set(asked) != there.keys():
        raise errors.NotConfigured(
            f"a roll-out of some columns of {found.view.sql} is not at its end",
            detail=", ".join(there),
            hint=f"Name these: columns => {literal(json.dumps([*there]))}. The same call goes on, or takes it back.",
        )
    if unknown := [name for name in asked if name not in there]:
        raise errors.NotProtected(
            f"{found.view.sql} has no such protected column",
            detail=", ".join(unknown),
            hint="envelope.columns lists protected columns.",
        )
    return asked


def _rehearse(host: Host, found: Place, leaving: Sequence[str]) -> None:
    """Raises Unsupported where the table could not be plain in the end, because of what depends on its view."""
    try:
        with host.subtransaction():
            graph = dependents.lock(host, found.view, found.view.sql, found.base.sql, tries=locks.BRIEF)
            carryable(host, found.view, _left(found, leaving), graph, "unprotected")
            raise Undone
    except Undone:
        return


def _left(found: Place, leaving: Sequence[str]) -> list[Column]:
    """Returns the columns that the view, or the plain table, has in the end."""
    gone = {search.name for search in found.layout.searches.values() if search.source in leaving}
    return [column for column in found.view.columns if column.name not in gone]
