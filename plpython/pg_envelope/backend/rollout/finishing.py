"""Ends a roll-out in one short transaction: nothing is read or written row by row any more."""

from __future__ import annotations

from pg_envelope.backend.host import Host
from pg_envelope.backend.rollout import proofs, tokens
from pg_envelope.backend.rollout.leaving import leave
from pg_envelope.backend.search import place, protecting, stand_ins
from pg_envelope.backend.search.place import Place
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables import dependents, heaps, locks
from pg_envelope.backend.tables.protect import report
from pg_envelope.backend.tables.refresh import refresh
from pg_envelope.backend.tables.unprotect import make_plain

DONE = f"""
UPDATE envelope_private.key SET rollout = NULL,
    residue = ARRAY(SELECT pg_relation_filenode(h.oid) FROM ({heaps.of("$1::oid")}) h)
WHERE base = $1::oid"""
# Whether a column is NOT NULL is known by the table from now on.
AT_REST = "UPDATE envelope_private.field SET in_rollout = false, plain_not_null = false WHERE key_uuid = $1"
# What ANALYZE has kept of the values in the clear. The next ANALYZE would find the columns empty.
FORGET_STATISTICS = f"""
DELETE FROM pg_catalog.pg_statistic s USING pg_catalog.pg_attribute a
WHERE s.starelid = a.attrelid AND a.attrelid IN ({heaps.of("$1::oid")} UNION SELECT $1::oid)
    AND a.attnum = s.staattnum AND a.attname = ANY ($2::name[])"""
RESIDUE = "dead rows of {base} still hold plaintext"
RESIDUE_HINT = (
    "VACUUM FULL {base}, or pg_repack while the table is in use."
    " Until then envelope.status() reminds you: docs/online.md"
)


def finish(host: Host, oid: int, act: str) -> Place:
    """Returns the table as it was before the last step.

    Raises Locked, and Unsupported where columns cannot be plain, because of what depends on the view.
    """
    found = place.find(host, oid)
    graph = dependents.lock(host, found.view, found.view.sql, found.base.sql, tries=locks.BRIEF)
    if act == proofs.PROTECT:
        _protected(host, found)
    elif found.layout.staying:
        leave(host, found, graph)
    else:
        make_plain(host, found.key, found.base, found.view, found.layout, graph)
    return found


def _protected(host: Host, found: Place) -> None:
    base, part = found.base, found.layout.of_rollout()
    for name, protected in part.protected.items():
        if protected.column.not_null:
            # The CHECK spares SET NOT NULL a look at the rows, so it is dropped afterwards.
            host.run(f"ALTER TABLE {base.sql} ALTER {ident(name)} SET NOT NULL")
            host.run(f"ALTER TABLE {base.sql} DROP CONSTRAINT {ident(proofs.given(name))}")
    host.rows(FORGET_STATISTICS, ["oid", "text[]"], [base.oid, list(part.plains)])
    host.rows(DONE, ["oid"], [base.oid])
    host.rows(AT_REST, ["uuid"], [part.key_uuid])
    if found.layout.hidden:
        tokens.show(host, found)
    else:
        refresh(host, base.oid)


def tell(host: Host, before: Place, act: str) -> None:
    """Tells what protect() tells, after the locks are gone."""
    if act == proofs.PROTECT:
        found = place.find(host, before.oid)
        report(host, found.base, found.layout)
        protecting.tell(host, found.layout, stand_ins.of_values(host, before.layout))
        host.warning(RESIDUE.format(base=found.base.sql), hint=RESIDUE_HINT.format(base=found.base.sql))
        host.commit()
