"""Refuses DDL after which values could not be read again, or an UPDATE would not find its row."""

from __future__ import annotations

from collections.abc import Iterator

from pg_envelope import errors
from pg_envelope.backend.faults import DOES_NOT_OPEN
from pg_envelope.backend.host import Host
from pg_envelope.backend.jobs import faulty
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables import partitions, refusals
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.inspect import Table
from pg_envelope.backend.tables.owner import AsOwner

# So many values of a column are tried.
FIRST = 3
WAY_OUT = "CALL envelope.unprotect(...) first, and protect the table again afterwards."


def check(host: Host, layout: Layout, base: Table) -> None:
    """Raises Unsupported for a base table that protect() would refuse as it is now."""
    reasons = list(_reasons(host, layout, base))
    if reasons:
        raise errors.Unsupported(f"{layout.view} is protected: {reasons[0]}", hint=WAY_OUT)


def _reasons(host: Host, layout: Layout, base: Table) -> Iterator[str]:
    if set(layout.row_key) != set(base.primary_key):
        yield "its values are bound to the columns of its primary key, which must stay the same"
    for row in host.rows(refusals.LATE_TRIGGERS, ["oid"], [base.oid]):
        yield f"trigger {row['name']} would run after the guard of {base.sql}: give it a name that sorts earlier"
    if base.inherits:
        yield f"{base.sql} cannot be part of an inheritance tree"
    yield from partitions.obstacles(host, base, layout.protected)


def opens(host: Host, layout: Layout, base: Table) -> None:
    """Raises Unsupported when none of the first values of a column opens. A single one may be damaged."""
    for name in layout.protected:
        first = f"SELECT {faulty.fault(layout, name)} AS fault FROM {layout.base} t WHERE t.{ident(name)} IS NOT NULL"
        found = AsOwner(host, base.owner_oid).rows(f"{first} LIMIT {FIRST}")
        if found and all(row["fault"] == DOES_NOT_OPEN for row in found):
            raise _bound_to_another_key(base, name)


def every_one_opens(host: Host, layout: Layout, base: Table) -> None:
    """Raises Unsupported when a value of a column does not open."""
    for name in layout.protected:
        faults = f"SELECT {faulty.fault(layout, name)} AS fault FROM {layout.base} t WHERE t.{ident(name)} IS NOT NULL"
        query = f"SELECT count(*) AS found FROM ({faults}) AS f WHERE f.fault OPERATOR(pg_catalog.=) $1"
        if AsOwner(host, base.owner_oid).count(query, ["text"], [DOES_NOT_OPEN]):
            raise _bound_to_another_key(base, name)


def _bound_to_another_key(base: Table, name: str) -> errors.Unsupported:
    return errors.Unsupported(
        f"the values of column {name} of {base.sql} do not open under its row key as it is now",
        hint="Change the columns of its primary key back as they were.",
    )
