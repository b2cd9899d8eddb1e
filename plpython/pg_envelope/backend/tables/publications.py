"""Warns about logical replication of a table: subscribers stop until they have the base table."""

from __future__ import annotations

from pg_envelope.backend.host import Host

PUBLICATIONS = """
SELECT string_agg(DISTINCT publication, ', ' ORDER BY publication) AS found FROM envelope_private.published
WHERE relation = $1::oid::regclass OR relation IN (SELECT relid FROM pg_catalog.pg_partition_tree($1::oid))"""


def of(host: Host, table: int) -> str | None:
    """Returns the names of the publications that send a table, as one text."""
    row = host.row(PUBLICATIONS, ["oid"], [table])
    return str(row["found"]) if row and row["found"] else None


def warn(host: Host, base: int, name: str) -> None:
    """Warns which publications send envelopes from now on, under the base table's name."""
    found = of(host, base)
    if found:
        host.warning(
            f"publications send the base table {name} from now on; their subscribers wait until they have it",
            detail=found,
            hint="See docs/logical-replication.md. Until then the publisher keeps its WAL for them.",
        )
