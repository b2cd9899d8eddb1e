"""Lets PostgreSQL prove that no value is left in its former form, while the table is in use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pg_envelope.backend.host import Host
from pg_envelope.backend.jobs.job import Job
from pg_envelope.backend.rollout import proofs
from pg_envelope.backend.search import place
from pg_envelope.backend.search.place import Place
from pg_envelope.backend.sqltext import commas, ident
from pg_envelope.backend.tables import locks
from pg_envelope.backend.tables.inspect import Check
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.backend.tables.unprotect import add_check


def settle(host: Host, oid: int, act: str) -> None:
    """Adds the constraints that the end of the roll-out needs, in a short transaction. They hold for new rows."""
    found = place.find(host, oid)
    there = {check.name for check in found.base.checks}
    missing = proofs.add(found.layout, act, there)
    checks = [check for check in found.layout.checks if act == proofs.UNPROTECT and check.name not in there]
    if missing or checks:
        locks.briefly(host, found.view.sql, found.base.sql)
    if missing:
        host.run(f"ALTER TABLE {found.base.sql} {commas(missing)}")
    if checks:
        with _own_names(host, found):
            _add(host, found, checks)
    host.commit()


def _add(host: Host, found: Place, checks: list[Check]) -> None:
    """Gives the table its CHECK constraints again. The rows of before are read later, without this lock."""
    owner = AsOwner(host, found.base.owner_oid)
    for check in checks:
        add_check(owner, found.base.sql, check, validated=False)


@contextmanager
def _own_names(host: Host, found: Place) -> Iterator[None]:
    """Gives the columns in the clear the names by which the text of a CHECK knows them. Nobody else sees it."""
    for number, (plain, name) in enumerate(found.layout.plains.items()):
        _rename(host, found, name, f"pg_envelope {number}")
        _rename(host, found, plain, name)
    yield
    for number, (plain, name) in enumerate(found.layout.plains.items()):
        _rename(host, found, name, plain)
        _rename(host, found, f"pg_envelope {number}", name)


def _rename(host: Host, found: Place, old: str, new: str) -> None:
    host.run(f"ALTER TABLE {found.base.sql} RENAME COLUMN {ident(old)} TO {ident(new)}")


def prove(host: Host, oid: int, act: str, job: Job) -> None:
    """Makes PostgreSQL look at every row. Raises its check_violation if a row is not in its last form."""
    found = place.find(host, oid)
    names = [*proofs.conditions(found.layout, act)]
    names += [check.name for check in found.layout.checks if act == proofs.UNPROTECT and check.validated]
    open_ones = {check.name for check in found.base.checks if not check.validated}
    host.commit()
    for name in names:
        if name in open_ones:
            # It runs as the owner, because a CHECK may call the owner's functions.
            AsOwner(host, found.base.owner_oid).run(f"ALTER TABLE {found.base.sql} VALIDATE CONSTRAINT {ident(name)}")
            job.commit()
            job.rest(0)
