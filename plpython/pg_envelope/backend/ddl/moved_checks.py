"""Lets DDL meet the CHECKs that moved from a table to the triggers of its view.

For the time of a command a constraint without a condition stands for each of them. What the command does to that one,
is done to the CHECK afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables import catalog, grants
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.inspect import Table
from pg_envelope.typed import Any

STANDING = """
SELECT c.oid, c.conname AS name, c.convalidated AS validated, obj_description(c.oid, 'pg_constraint') AS comment
FROM pg_catalog.pg_constraint c WHERE c.conrelid = $1 AND c.contype = 'c' AND {which}"""
BY_NAME = STANDING.format(which="c.conname = ANY ($2::name[])")
BY_OID = STANDING.format(which="c.oid = ANY ($2::oid[])")
KEEP = "UPDATE envelope_private.key SET checks = $2::jsonb WHERE key_uuid = $1"


def stand_in(host: Host, base: Table, layout: Layout) -> dict[str, int]:
    """Makes the constraints on the base table. Returns their OIDs by their names."""
    there = {check.name for check in base.checks}
    moved = [check for check in layout.checks if check.name not in there]
    for check in moved:
        host.run(f"ALTER TABLE {base.sql} ADD CONSTRAINT {ident(check.name)} CHECK (true) NOT VALID")
        if check.comment is not None:
            grants.comment(host, f"CONSTRAINT {ident(check.name)} ON {base.sql}", check.comment)
    rows = host.rows(BY_NAME, ["oid", "text[]"], [base.oid, [check.name for check in moved]])
    return {row["name"]: row["oid"] for row in rows}


def take_over(host: Host, key: Row, base: Table, exchanged: Row, dropped: Collection[str]) -> Row:
    """Takes the constraints away, and does to the CHECKs what was done to them. `dropped` are columns.

    Raises Unsupported. Returns the key's new row.
    """
    standing = json.loads(exchanged["checks"])
    found = {row["oid"]: row for row in host.rows(BY_OID, ["oid", "oid[]"], [base.oid, list(standing.values())])}
    for row in found.values():
        host.run(f"ALTER TABLE {base.sql} DROP CONSTRAINT {ident(row['name'])}")
    checks = list(_followed(json.loads(key["checks"]), standing, found, dropped))
    host.rows(KEEP, ["uuid", "text"], [key["key_uuid"], json.dumps(checks)])
    return catalog.key_of(host, base.oid)


def _followed(
    checks: list[dict[str, Any]], standing: dict[str, int], found: dict[int, Row], dropped: Collection[str]
) -> Iterator[dict[str, Any]]:
    for check in checks:
        now = found.get(standing.get(check["name"], 0))
        gone = check["name"] in standing and now is None
        if gone or set(check["columns"]) & set(dropped):
            continue
        if now is not None and now["validated"] and not check["validated"]:
            raise errors.Unsupported(
                f"constraint {now['name']} is a CHECK of values that are encrypted: it cannot be validated",
                hint="It holds for each value that is written. To look at all rows: CALL envelope.unprotect(...), and"
                " protect the table again.",
            )
        yield {**check, **({"name": now["name"], "comment": now["comment"]} if now else {})}
