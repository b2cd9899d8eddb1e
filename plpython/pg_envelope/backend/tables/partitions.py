"""Finds what partitions have of their own, which would not follow when the whole table becomes a base table."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from pg_envelope.backend.field_options import FieldOptions
from pg_envelope.backend.host import Host
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables.inspect import Table

# The partitions at every depth, and their columns that have the names of protected ones.
PARTS = """
WITH part AS (
    SELECT c.*, format('%I.%I', n.nspname, c.relname) AS sql FROM pg_catalog.pg_partition_tree($1) p
    JOIN pg_catalog.pg_class c ON c.oid = p.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid <> $1),
used AS (
    SELECT a.*, pg_get_expr(d.adbin, d.adrelid) AS default_text FROM pg_catalog.pg_attribute a
    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attname = ANY ($2::name[]) AND (a.attrelid = $1 OR a.attrelid IN (SELECT oid FROM part)))"""
# Constraints, indexes and triggers that come from the whole table are no partition's own.
OWN = f"""{PARTS}
SELECT format('%s is a foreign table', sql) AS what FROM part WHERE relkind = 'f'
UNION ALL
SELECT format('%s has another owner than the whole table', sql) FROM part
WHERE relowner <> (SELECT relowner FROM pg_catalog.pg_class WHERE oid = $1)
UNION ALL
SELECT format('%s has a trigger of its own: %s', sql, t.tgname) FROM part
JOIN pg_catalog.pg_trigger t ON t.tgrelid = part.oid
WHERE NOT t.tgisinternal AND t.tgparentid = 0
UNION ALL
SELECT format('%s has a constraint of its own: %s', sql, k.conname) FROM part
JOIN pg_catalog.pg_constraint k ON k.conrelid = part.oid
WHERE k.contype <> 'n' AND k.coninhcount = 0 AND k.conparentid = 0 AND (
    k.contype = 'c' AND coalesce(0 = ANY (k.conkey), true) OR EXISTS (
    SELECT FROM used a WHERE a.attrelid = part.oid AND a.attnum = ANY (k.conkey)))
UNION ALL
SELECT DISTINCT format('%s has an index of its own: %s', sql, i.indexrelid::regclass) FROM part
JOIN pg_catalog.pg_index i ON i.indrelid = part.oid
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refobjid = part.oid
JOIN used a ON a.attrelid = part.oid AND a.attnum = d.refobjsubid
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = i.indexrelid)
UNION ALL
SELECT DISTINCT format('%s uses %s', pg_describe_object(d.classid, d.objid, d.objsubid), sql) FROM part
JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = part.oid
LEFT JOIN used a ON a.attrelid = part.oid AND a.attnum = d.refobjsubid
WHERE d.classid = ANY ('{{pg_rewrite,pg_proc}}'::regclass[]) AND (a.attnum IS NOT NULL OR d.refobjsubid = 0)
    OR d.classid = ANY ('{{pg_policy,pg_statistic_ext}}'::regclass[]) AND a.attnum IS NOT NULL
UNION ALL
SELECT DISTINCT format('%s uses the row type of %s', pg_describe_object(d.classid, d.objid, d.objsubid), sql) FROM part
JOIN pg_catalog.pg_type t ON t.oid = part.reltype
JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_type'::regclass AND d.refobjid IN (t.oid, t.typarray)
WHERE d.deptype = 'n'
UNION ALL
SELECT format('column %I of %s has a default, STORAGE or COMPRESSION of its own', a.attname, sql)
FROM part JOIN used a ON a.attrelid = part.oid JOIN used w ON w.attrelid = $1 AND w.attname = a.attname
WHERE (a.attstorage, a.attcompression, a.default_text)
    IS DISTINCT FROM (w.attstorage, w.attcompression, w.default_text)
ORDER BY 1"""
OTHER_OWNERS = f"""{PARTS.replace("$2::name[]", "'{}'::name[]")}
SELECT sql FROM part
WHERE relkind IN ('r', 'p') AND relowner <> (SELECT relowner FROM pg_catalog.pg_class WHERE oid = $1)"""
DECIDING = f"""{PARTS}
SELECT DISTINCT a.attname AS name FROM pg_catalog.pg_partitioned_table p JOIN used a ON a.attrelid = p.partrelid
WHERE a.attnum = ANY (p.partattrs) OR p.partexprs::text LIKE format('%%:varattno %s %%', a.attnum) ORDER BY 1"""


def obstacles(host: Host, table: Table, columns: Collection[str]) -> Iterator[str]:
    """Yields a line for each thing that a partition has of its own."""
    if table.kind != "p":
        return
    if table.key_is_deferrable:
        yield "the primary key of a partitioned table is DEFERRABLE: two of its rows may have one key and one ctid"
    for row in host.rows(OWN, ["oid", "text[]"], [table.oid, list(columns)]):
        yield f"partition: {row['what']}"


def unique(table: Table, wanted: Mapping[str, FieldOptions]) -> Iterator[str]:
    """Yields a line for each search column that a unique index would have to serve alone, without the partition key."""
    for name, options in wanted.items() if table.kind == "p" else ():
        for search in options.search:
            if search.unique:
                yield (
                    f"search column {search.name} cannot be unique by itself: make a UNIQUE index of {name} and of the"
                    " columns that decide the partition. Tokens stand in for it"
                )


def hand_over(host: Host, table: Table) -> None:
    """Gives partitions to the owner of the whole table, by whose rights jobs write them. A superuser may have made
    them.
    """
    for row in host.rows(OTHER_OWNERS, ["oid"], [table.oid]) if table.kind == "p" else ():
        host.run(f"ALTER TABLE {row['sql']} OWNER TO {ident(table.owner)}")


def deciding(host: Host, table: Table, columns: Collection[str]) -> list[str]:
    """Returns those of the columns that decide in which partition a row is."""
    return [row["name"] for row in host.rows(DECIDING, ["oid", "text[]"], [table.oid, list(columns)])]
