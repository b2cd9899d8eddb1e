"""reencrypt(): old envelopes to the newest key version, in committed batches of blocks, beside concurrent writes."""

from __future__ import annotations

import time
from collections.abc import Iterator

from pg_envelope import errors
from pg_envelope.backend.commits import begin, pin
from pg_envelope.backend.host import Host
from pg_envelope.backend.sqltext import commas, ident
from pg_envelope.backend.tables import catalog, generate, inspect
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.owner import AsOwner

NOTICE_SECONDS = 1.0
ROWS_PER_BLOCK = 50
# A row that another session changes while a pass waits for it is left to the next pass.
IDLE_PASSES = 20
SIZE = """
SELECT pg_relation_size($1::regclass) / current_setting('block_size')::bigint AS blocks, c.reltuples AS rows
FROM pg_catalog.pg_class c WHERE c.oid = $1"""
HIDDEN = """
SELECT c.oid FROM envelope_private.key k JOIN pg_catalog.pg_class c ON c.oid = k.base
JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
WHERE k.key_uuid = $1 AND c.relrowsecurity AND c.relforcerowsecurity AND NOT (r.rolsuper OR r.rolbypassrls)"""
HEADERS = """
SELECT f.field_uuid, substr(c.seal, 17) AS header FROM envelope_private.field f
JOIN envelope_private.capability c USING (field_uuid) WHERE f.key_uuid = $1"""


def reencrypt(host: Host, oid: int, batch_size: int) -> None:
    """Passes over the table until no header is old. Raises NotProtected, BadInput; what is committed stays done."""
    if batch_size < 1:
        raise errors.BadInput("batch_size must be 1 or more")
    key = catalog.key_of(host, oid)
    table = inspect.inspect(host, key["base"])
    layout = catalog.layout_of(host, key, table)
    owner, key_uuid = AsOwner(host, table.owner_oid), str(key["key_uuid"])
    begin(host, "reencrypt")
    _quiet(host)
    total, idle = 0, 0
    while old := _count_old(host, owner, layout, key_uuid):
        done = _one_pass(host, owner, layout, key_uuid, key["base"], batch_size, waiting=total > 0 or idle > 0)
        total += done
        idle = 0 if done else idle + 1
        if idle > IDLE_PASSES:
            raise errors.EnvelopeError(
                f"{old} rows of {layout.base} with old values cannot be updated",
                hint="Does a trigger with ENABLE ALWAYS or ENABLE REPLICA keep them as they are?",
            )
    host.notice(f"reencrypt: all values of {layout.view} have the newest key version; {total} rows were re-encrypted")


def _one_pass(
    host: Host, owner: AsOwner, layout: Layout, key_uuid: str, base: int, batch_size: int, *, waiting: bool
) -> int:
    """Every block once; rows that others have locked are left to the next pass, unless `waiting`."""
    blocks, step = _size(host, base, batch_size)
    rows, told = 0, time.monotonic()
    for first, last in _ranges(blocks, step):
        _quiet(host)
        rows += owner.run(_batch(host, layout, key_uuid, first, last, waiting))
        host.commit()
        if time.monotonic() - told > NOTICE_SECONDS:
            host.notice(f"reencrypt: {last} of {blocks} blocks, {rows} rows re-encrypted")
            told = time.monotonic()
    _quiet(host)
    return rows


def _quiet(host: Host) -> None:
    """User triggers do not fire in this transaction, for no value changes."""
    pin(host)
    host.run("SET LOCAL session_replication_role = replica")


def _size(host: Host, base: int, batch_size: int) -> tuple[int, int]:
    """The table's blocks, and how many of them hold about batch_size rows."""
    row = host.row(SIZE, ["oid"], [base])
    assert row is not None
    per_block = row["rows"] / row["blocks"] if row["rows"] > 0 and row["blocks"] else ROWS_PER_BLOCK
    return int(row["blocks"]), max(1, int(batch_size / max(per_block, 1)))


def _ranges(blocks: int, step: int) -> Iterator[tuple[int, int]]:
    for first in range(0, blocks, step):
        yield first, min(first + step, blocks)


def _old(host: Host, layout: Layout, key_uuid: str) -> str:
    """True for a row with an envelope whose header is not the newest; names in `t`."""
    headers = {row["field_uuid"]: row["header"].hex() for row in host.rows(HEADERS, ["uuid"], [key_uuid])}
    return " OR ".join(
        f"substr(t.{ident(name)}, 1, 6) <> '\\x{headers[protected.field_uuid]}'"
        for name, protected in layout.protected.items()
    )


def _count_old(host: Host, owner: AsOwner, layout: Layout, key_uuid: str) -> int:
    """As the owner, who could have put a view of that name in the table's place since the last commit."""
    if host.row(HIDDEN, ["uuid"], [key_uuid]):
        raise errors.Unsupported(
            f"row-level security with FORCE may hide rows of {layout.base} from reencrypt(), which runs as its owner",
            hint=f"ALTER TABLE {layout.base} NO FORCE ROW LEVEL SECURITY while reencrypt() runs.",
        )
    return owner.count(f"SELECT count(*) AS found FROM {layout.base} t WHERE {_old(host, layout, key_uuid)}")


def _batch(host: Host, layout: Layout, key_uuid: str, first: int, last: int, waiting: bool) -> str:
    values = commas(f"{ident(name)} = {generate.resealed(layout, name)}" for name in layout.protected)
    return (
        f"WITH old AS MATERIALIZED (SELECT t.ctid FROM {layout.base} t"
        f" WHERE t.ctid >= '({first},0)' AND t.ctid < '({last},0)' AND ({_old(host, layout, key_uuid)})"
        f" FOR NO KEY UPDATE{'' if waiting else ' SKIP LOCKED'})"
        f" UPDATE {layout.base} t SET {values} FROM old WHERE t.ctid = old.ctid"
    )
