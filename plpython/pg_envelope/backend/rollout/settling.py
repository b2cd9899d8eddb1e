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
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.inspect import Check
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.backend.tables.unprotect import add_check

# The classes of the errors of a CHECK: a violation, or what its functions raise.
OF_A_ROW = ("22", "23", "42", "P0")


def settle(host: Host, oid: int, act: str) -> None:
    """Adds the constraints that the end of the roll-out needs, in a short transaction. They hold for new rows."""
    found = place.find(host, oid)
    there = {check.name for check in found.base.checks}
    missing = proofs.add(found.layout.of_rollout(), act, there)
    checks = [check for check in returning(found.layout, act) if check.name not in there]
    if missing or checks:
        locks.briefly(host, found.view.sql, found.base.sql)
    if missing:
        host.run(f"ALTER TABLE {found.base.sql} {commas(missing)}")
    if checks:
        with _own_names(host, found):
            _add(host, found, checks)
    host.commit()


def returning(layout: Layout, act: str) -> list[Check]:
    """Returns the CHECK constraints that the table gets again: those of no column that stays protected."""
    return [check for check in layout.checks if act == proofs.UNPROTECT and not check.columns & layout.staying]


def _add(host: Host, found: Place, checks: list[Check]) -> None:
    """Gives the table its CHECK constraints again. The rows of before are read later, without this lock."""
    owner = AsOwner(host, found.base.owner_oid)
    for check in checks:
        add_check(owner, found.base.sql, check, validated=False)


@contextmanager
def _own_names(host: Host, found: Place) -> Iterator[None]:
    """Gives the columns in the clear the names by which the text of a CHECK knows them. Nobody else sees it."""
    for number, (plain, name) in enumerate(found.layout.sources.items()):
        _rename(host, found, name, f"pg_envelope {number}")
        _rename(host, found, plain, name)
    yield
    for number, (plain, name) in enumerate(found.layout.sources.items()):
        _rename(host, found, name, plain)
        _rename(host, found, f"pg_envelope {number}", name)


def _rename(host: Host, found: Place, old: str, new: str) -> None:
    host.run(f"ALTER TABLE {found.base.sql} RENAME COLUMN {ident(old)} TO {ident(new)}")


def prove(host: Host, oid: int, act: str, job: Job) -> None:
    """Makes PostgreSQL look at every row. Raises its check_violation if a row is not in its last form."""
    found = place.find(host, oid)
    unproved = [check.name for check in found.base.checks if not check.validated]
    ours = proofs.conditions(found.layout.of_rollout(), act)
    theirs = {check.name for check in returning(found.layout, act) if check.validated}
    host.commit()
    for name in unproved:
        if name in ours:
            _validate(host, found, name)
        elif name in theirs:
            _try_to_validate(host, found, name)
        job.commit()
        job.rest(0)


def _validate(host: Host, found: Place, name: str) -> None:
    """Reads the table as its owner, because a CHECK may call the owner's functions."""
    AsOwner(host, found.base.owner_oid).run(f"ALTER TABLE {found.base.sql} VALIDATE CONSTRAINT {ident(name)}")


def _try_to_validate(host: Host, found: Place, name: str) -> None:
    """A CHECK of the table's own may ask who writes, or when. Then old rows may not meet it any more."""
    try:
        _validate(host, found, name)
    except Exception as error:
        if not str(getattr(error, "sqlstate", "")).startswith(OF_A_ROW):
            raise
        host.warning(
            f"CHECK constraint {name} of {found.view.sql} holds for new rows, and is NOT VALID for the rows of before",
            hint=f"ALTER TABLE {found.view.sql} VALIDATE CONSTRAINT {ident(name)}",
        )
