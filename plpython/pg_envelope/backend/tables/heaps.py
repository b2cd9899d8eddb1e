"""Finds the relations that hold the rows of a table: the table itself, or its partitions at every depth."""

from __future__ import annotations

from pg_envelope.backend.host import Host
from pg_envelope.typed import NamedTuple

NAMED = """
SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS sql,
    coalesce(pg_relation_size(c.oid::regclass), 0) / current_setting('block_size')::bigint AS blocks,
    c.reltuples AS rows
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"""


def of(table: str) -> str:
    """Returns the query for the oids of the heaps of a table, whose oid is the SQL expression `table`."""
    return (
        f"SELECT c.oid FROM pg_catalog.pg_class c WHERE c.oid = {table} AND c.relkind <> 'p'"
        f" UNION ALL SELECT p.relid FROM pg_catalog.pg_partition_tree({table}) p"
        f" WHERE p.isleaf AND p.relid <> {table}"
    )


FOUND = f"{NAMED} WHERE c.oid IN ({of('$1::oid')}) ORDER BY c.oid"
ONE = f"{NAMED} WHERE c.oid = $2 AND c.oid IN ({of('$1::oid')})"


class Heap(NamedTuple):
    """A relation that holds rows. `rows` is negative where nobody has counted them yet."""

    oid: int
    sql: str
    blocks: int
    rows: float


def find(host: Host, table: int) -> list[Heap]:
    """Returns the heaps of a table in the order of their oids, which is the same at each call."""
    return [Heap(**row) for row in host.rows(FOUND, ["oid"], [table])]


def one(host: Host, table: int, heap: int) -> Heap | None:
    """Returns a heap as it is now, or None if the table has it no more: a partition can be dropped at any time."""
    row = host.row(ONE, ["oid", "oid"], [table, heap])
    return Heap(**row) if row else None
