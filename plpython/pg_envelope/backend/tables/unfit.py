"""Lists types whose text is not the whole value in every session, or never becomes a value again. protect() refuses
them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pg_envelope.backend.host import Host
from pg_envelope.backend.tables.inspect import Column, Table

# Their text shows a name, which changes with a rename. Their number does not survive a dump.
NAMES = {
    "aclitem": "which names roles that can be renamed: make it text",
    **dict.fromkeys(
        "regclass regcollation regconfig regdictionary regnamespace regoper regoperator regproc regprocedure regrole"  # noqa: SIM905
        " regtype".split(),
        "which names an object that can be renamed: make it text, or oid if the number is what counts",
    ),
}
# These are types of extensions, which have no fixed schema.
EXTENSIONS = {"seg": "whose text shows six digits of its bounds: make it numrange, or two columns of type float4"}
VALUES: Mapping[str, str] = {
    **NAMES,
    **EXTENSIONS,
    "money": "whose text depends on lc_monetary: make it numeric",
    "xml": "which loses its declaration inside another type: give it a column of its own, or make it text",
    **dict.fromkeys(
        "gtsvector pg_brin_bloom_summary pg_brin_minmax_multi_summary pg_dependencies pg_mcv_list pg_ndistinct"  # noqa: SIM905
        " pg_node_tree".split(),
        "which PostgreSQL writes as text and never reads from it: make it text",
    ),
}
# Every type inside a column's type, known by its output function, because a user's type may have the same one. An xml
# column is accepted when xml is its whole type.
PARTS = """
WITH known AS (
    SELECT t.typname AS name, f.prosrc AS writes
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_proc f ON f.oid = t.typoutput
    WHERE t.typnamespace = 'pg_catalog'::regnamespace
    UNION ALL SELECT name, name || '_out' FROM unnest($5::name[]) AS name)
SELECT DISTINCT k.name FROM envelope_private.type_parts((
    SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1 AND a.attnum = $2)) AS part (type)
JOIN pg_catalog.pg_type t ON t.oid = part.type JOIN pg_catalog.pg_proc f ON f.oid = t.typoutput
JOIN known k ON k.writes = f.prosrc
WHERE k.name = ANY ($3::name[]) AND NOT (k.name = 'xml' AND $4 = 'xml')
ORDER BY 1"""


def reasons(host: Host, table: Table, column: Column, types: Mapping[str, str] = VALUES) -> Iterator[str]:
    """Yields which of `types` are inside a column's type, at any depth, and what to do about it."""
    values = [table.oid, column.attnum, list(types), column.base_type, list(EXTENSIONS)]
    for row in host.rows(PARTS, ["oid", "int4", "text[]", "text", "text[]"], values):
        yield f"holds {row['name']}, {types[row['name']]}"
