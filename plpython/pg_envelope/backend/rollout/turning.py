"""Gives a roll-out its direction: to envelopes, or back to values in the clear."""

from __future__ import annotations

from pg_envelope.backend.host import Host
from pg_envelope.backend.rollout import proofs
from pg_envelope.backend.search import place, stand_ins
from pg_envelope.backend.sqltext import commas, ident
from pg_envelope.backend.tables import inspect, locks
from pg_envelope.backend.tables.refresh import refresh

TURNED = "UPDATE envelope_private.key SET rollout = $2, residue = NULL WHERE base = $1::oid"
NOT_NULL = """
UPDATE envelope_private.field f SET plain_not_null = plain_not_null OR a.attnotnull
FROM pg_catalog.pg_attribute a
WHERE f.key_uuid = $1 AND a.attrelid = $2 AND a.attname = f.attname AND NOT a.attisdropped"""


def turn(host: Host, oid: int, act: str) -> None:
    """Makes the guard and the triggers write what `act` wants. From now on they do, and the rows of before follow."""
    found = place.find(host, oid)
    if found.key["rollout"] == act:
        return
    locks.briefly(host, found.view.sql, found.base.sql)
    host.rows(NOT_NULL, ["uuid", "oid"], [found.layout.key_uuid, found.base.oid])
    host.rows(TURNED, ["oid", "text"], [found.base.oid, act])
    names = found.layout.key_uuid, found.base.oid, found.layout.schema
    stand_ins.put_in_force(host, *names, tokens=act == proofs.PROTECT)
    if act == proofs.PROTECT:
        stand_ins.drop_made(host, *names, are_kept=bool(found.layout.hidden))
    proofs.begin_again(host, found.base, found.layout)
    parts = [f"ALTER {ident(name)} DROP NOT NULL" for name in found.layout.protected]
    # On the way back the constraints come when the envelopes are gone: see settling.py.
    parts += proofs.add(found.layout, act) if act == proofs.PROTECT else []
    host.run(f"ALTER TABLE {found.base.sql} {commas(parts)}")
    refresh(host, inspect.inspect(host, oid).oid)
