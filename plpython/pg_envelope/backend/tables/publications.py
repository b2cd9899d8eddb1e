"""Warns about logical replication of a table: subscribers stop until they have the base table."""

from __future__ import annotations

from pg_envelope.backend.host import Host

PUBLICATIONS = """
SELECT string_agg(DISTINCT publication, ', ' ORDER BY publication) AS found FROM envelope_private.published
WHERE relation = $1::oid::regclass"""


def warn(host: Host, base: int, name: str) -> None:
    """Warns which publications send envelopes from now on, under the base table's name."""
    row = host.row(PUBLICATIONS, ["oid"], [base])
    if row and row["found"]:
        host.warning(
            f"publications send the base table {name} from now on; their subscribers wait until they have it",
            detail=row["found"],
            hint="See docs/logical-replication.md. Until then the publisher keeps its WAL for them.",
        )
