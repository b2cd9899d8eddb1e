"""Carries out protect() and unprotect() with online => true, step by step, while the table is in use.

Each step is committed, and can be found in the catalogs: after a kill the same call goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from pg_envelope import errors
from pg_envelope.backend.commits import begin
from pg_envelope.backend.host import Host, Undone
from pg_envelope.backend.jobs import walker
from pg_envelope.backend.jobs.isolation import read_committed
from pg_envelope.backend.jobs.job import Aborted, Job
from pg_envelope.backend.jobs.older import wait_for_readers
from pg_envelope.backend.jobs.resealing import Resealing
from pg_envelope.backend.jobs.walker import Pace, Walker
from pg_envelope.backend.keys import FieldOptions, Keys
from pg_envelope.backend.rollout import fitness, settling, tokens
from pg_envelope.backend.rollout.finishing import finish, tell
from pg_envelope.backend.rollout.proofs import PROTECT, UNPROTECT
from pg_envelope.backend.rollout.start import start
from pg_envelope.backend.rollout.turning import turn
from pg_envelope.backend.rollout.work import WORK
from pg_envelope.backend.search import functions, place
from pg_envelope.backend.search.place import Place
from pg_envelope.backend.tables import catalog, dependents, locks, opening, upsert
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.options import ProtectArguments
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.backend.tables.unprotect import carryable, shown

BACK = {PROTECT: UNPROTECT, UNPROTECT: PROTECT}
MADE = {PROTECT: "the last envelopes", UNPROTECT: "the last values in the clear"}


def protect_online(host: Host, keys: Keys, oid: int, asked: ProtectArguments, pace: Pace) -> None:
    """Commits as it goes; called again, it goes on. Raises what protect() raises, Running and Aborted."""
    walker.check(pace)
    begin(host, PROTECT)
    asked = replace(asked, wanted=functions.settle_all(host, asked.wanted))
    with read_committed(host):
        if not _goes_on(host, oid, asked.wanted):
            start(host, keys, oid, asked)
            host.commit()
        _roll(host, oid, PROTECT, pace)


def _goes_on(host: Host, oid: int, wanted: Mapping[str, FieldOptions]) -> bool:
    """Tells whether a roll-out is under way. Raises NotConfigured if that is one of other columns."""
    key = host.row(catalog.KEY, ["oid"], [oid])
    if key is None or not key["rollout"]:
        return False
    layout = place.find(host, oid).layout
    under_way = {name: found.options for name, found in layout.protected.items()}
    sealing = {name: replace(options, search=(), drops_indexes=False) for name, options in wanted.items()}
    if under_way != sealing or not _searched(layout, wanted):
        raise errors.NotConfigured(
            f"{key['view_name']} is being protected with other columns or options",
            detail=", ".join(under_way),
            hint="Call it with those again, or take it back: CALL envelope.unprotect(..., online => true).",
        )
    return True


def _searched(layout: Layout, wanted: Mapping[str, FieldOptions]) -> bool:
    """Tells whether the search columns are there that were asked for. Those that indexes ask for are there, too."""
    there = {(one.source, one.name, one.normalizer, one.is_unique) for one in layout.searches.values()}
    asked = ((name, one.name, one.normalize, one.unique) for name, options in wanted.items() for one in options.search)
    return there.issuperset(asked)


def unprotect_online(host: Host, oid: int, damaged: str, pace: Pace) -> None:
    """Commits as it goes; called again, it goes on. It takes an unfinished protect(online) back.

    Raises what unprotect() raises, Running and Aborted.
    """
    opening.check(damaged)
    walker.check(pace)
    begin(host, UNPROTECT)
    with read_committed(host):
        found = place.find(host, oid)
        upsert.refuse_allowed(found)
        fitness.check_unprotect(host, found, damaged)
        _rehearse(host, found)
        _roll(host, oid, UNPROTECT, pace)


def _rehearse(host: Host, found: Place) -> None:
    """Raises Unsupported where the table could not be plain in the end, because of what depends on its view."""
    try:
        with host.subtransaction():
            graph = dependents.lock(host, found.view, found.view.sql, found.base.sql, tries=locks.BRIEF)
            carryable(host, found.view, shown(found.view, found.layout), graph, "unprotected")
            raise Undone
    except Undone:
        return


def _roll(host: Host, oid: int, act: str, pace: Pace) -> None:
    """Goes on to the end. When another session aborts it, it goes back to where it began, and raises Aborted."""
    base = place.find(host, oid).base.oid
    try:
        _go_on(host, base, act, pace)
    except Aborted:
        host.notice(f"{act}(online) was aborted, and goes back now")
        _go_on(host, base, BACK[act], pace)
        raise


def _go_on(host: Host, oid: int, act: str, pace: Pace) -> None:
    if act == PROTECT:
        tokens.fill_all(host, oid, pace)
    found = place.find(host, oid)
    job = Job(host, found.layout.key_uuid, what="online")
    job.start(take_over=False)
    with job.running():
        turn(host, oid, act)
        job.commit()
        _convert(host, oid, act, job, pace)
        settling.settle(host, oid, act)
        # A row may have been written between the last look and the constraints.
        _convert(host, oid, act, job, pace)
        settling.prove(host, oid, act, job)
        wait_for_readers(host, job, MADE[act])
        finish(host, oid, act)
        job.complete()
    tell(host, oid, act)


def _convert(host: Host, oid: int, act: str, job: Job, pace: Pace) -> None:
    """Brings all rows to their last form, in committed batches. Raises Damaged where values do not open."""
    found = place.find(host, oid)
    owner = AsOwner(host, found.base.owner_oid)
    walks = Walker(host, found.key, job, pace)
    Resealing(host, owner, found.layout, found.key, job, walks, partial(WORK[act], found.layout)).clean()
    if act == UNPROTECT:
        opening.refuse_damaged(owner, found.layout)
        host.commit()
