"""Types whose text is not the whole value in every session, or never becomes a value again: protect() refuses them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pg_envelope.backend.host import Host
from pg_envelope.backend.tables.inspect import Column, Table

# Their text shows a name, which changes with a rename; their number does not survive a dump.
NAMES = {
    "aclitem": "which names roles that can be renamed: make it text",
    **dict.fromkeys(
        "regclass regcollation regconfig regdictionary regnamespace regoper regoperator regproc regprocedure regrole"  # noqa: SIM905
        " regtype".split(),
        "which names an object that can be renamed: make it text, or oid if the number is what counts",
    ),
}
VALUES: Mapping[str, str] = {
    **NAMES,
    "money": "whose text depends on lc_monetary: make it numeric",
    "xml": "which loses its declaration inside another type: give it a column of its own, or make it text",
    **dict.fromkeys(
        "gtsvector pg_brin_bloom_summary pg_brin_minmax_multi_summary pg_dependencies pg_mcv_list pg_ndistinct"  # noqa: SIM905
        " pg_node_tree".split(),
        "which PostgreSQL writes as text and never reads from it: make it text",
    ),
}
# From the types of a recursive query `part` to those that they are made of.
INNER_TYPES = """JOIN pg_catalog.pg_type t ON t.oid = part.type
    LEFT JOIN pg_catalog.pg_range r ON part.type IN (r.rngtypid, r.rngmultitypid)
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped,
    LATERAL unnest(ARRAY[t.typbasetype, t.typelem, r.rngsubtype, a.atttypid]) inner_type
    WHERE inner_type <> 0"""
# Every type that a column's type is made of. xml is well where it is the whole of a column.
PARTS = f"""
WITH RECURSIVE part (type) AS (
    SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1 AND a.attnum = $2
    UNION
    SELECT inner_type FROM part {INNER_TYPES})
SELECT t.typname AS name FROM part JOIN pg_catalog.pg_type t ON t.oid = part.type
WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typname = ANY ($3::name[])
    AND NOT (t.typname = 'xml' AND $4 = 'xml')
ORDER BY 1"""


def reasons(host: Host, table: Table, column: Column, types: Mapping[str, str] = VALUES) -> Iterator[str]:
    """Which of `types` a column is made of, however deep, and what to do about it."""
    values = [table.oid, column.attnum, list(types), column.base_type]
    for row in host.rows(PARTS, ["oid", "int4", "text[]", "text"], values):
        yield f"holds {row['name']}, {types[row['name']]}"
