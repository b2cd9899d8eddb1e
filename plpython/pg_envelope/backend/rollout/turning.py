"""Gives a roll-out its direction: to envelopes, or back to values in the clear."""

from __future__ import annotations

from collections.abc import Iterable

from pg_envelope.backend.host import Host
from pg_envelope.backend.rollout import proofs
from pg_envelope.backend.search import place, stand_ins
from pg_envelope.backend.sqltext import commas, ident
from pg_envelope.backend.tables import inspect, locks
from pg_envelope.backend.tables.refresh import refresh

# A column that stays protected may have left residue before.
TURNED = """
UPDATE envelope_private.key SET rollout = $2, residue = CASE WHEN $3 THEN residue END WHERE base = $1::oid"""
TAKE_PART = "UPDATE envelope_private.field SET in_rollout = attname = ANY ($2::name[]) WHERE key_uuid = $1"
NOT_NULL = """
UPDATE envelope_private.field f SET plain_not_null = plain_not_null OR a.attnotnull
FROM pg_catalog.pg_attribute a
WHERE f.key_uuid = $1 AND f.in_rollout AND a.attrelid = $2 AND a.attname = f.attname AND NOT a.attisdropped"""


def turn(host: Host, oid: int, act: str, columns: Iterable[str]) -> None:
    """Makes the guard and the triggers write what `act` wants. From now on they do, and the rows of before follow.

    `columns` are those of the roll-out. If a roll-out is under way, its own columns do.
    """
    found = place.find(host, oid)
    if found.key["rollout"] == act:
        return
    locks.briefly(host, found.view.sql, found.base.sql)
    if not found.key["rollout"]:
        host.rows(TAKE_PART, ["uuid", "text[]"], [found.layout.key_uuid, list(columns)])
        found = place.find(host, oid)
    part = found.layout.of_rollout()
    host.rows(NOT_NULL, ["uuid", "oid"], [part.key_uuid, found.base.oid])
    host.rows(TURNED, ["oid", "text", "bool"], [found.base.oid, act, bool(found.layout.staying)])
    stand_ins.put_in_force(host, found.layout, found.base.oid, tokens=act == proofs.PROTECT)
    if act == proofs.PROTECT:
        stand_ins.drop_made(host, found.layout, found.base.oid, are_kept=bool(found.layout.hidden))
    proofs.begin_again(host, found.base, part)
    parts = [f"ALTER {ident(name)} DROP NOT NULL" for name in part.protected]
    # On the way back the constraints come when the envelopes are gone: see settling.py.
    parts += proofs.add(part, act) if act == proofs.PROTECT else []
    host.run(f"ALTER TABLE {found.base.sql} {commas(parts)}")
    refresh(host, inspect.inspect(host, oid).oid)
