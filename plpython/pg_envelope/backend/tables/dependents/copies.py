"""Finds materialized views that hold values of protected columns in the clear."""

from __future__ import annotations

from collections.abc import Collection

from pg_envelope.backend.host import Host

# What reads a column, directly or through views and functions. Of a query that uses whole rows nobody knows the
# columns, nor of one that reads such a view: they count as readers of all. `{start}` gives relations and columns.
READERS = """
WITH RECURSIVE start (relation, attnum) AS ({start}), reader (classid, objid) AS (
    SELECT u.classid, u.objid FROM start s CROSS JOIN LATERAL (
        SELECT CASE WHEN w.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass END AS classid,
            coalesce(w.ev_class, d.objid) AS objid
        FROM pg_catalog.pg_depend d
        LEFT JOIN pg_catalog.pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
        WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = s.relation
            AND (w.rulename = '_RETURN' AND w.ev_class <> s.relation OR d.classid = 'pg_proc'::regclass)
            AND (d.refobjsubid = s.attnum OR w.ev_action::text LIKE '%:varattno 0 %')) u
    UNION
    SELECT CASE WHEN w.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass END, coalesce(w.ev_class, d.objid)
    FROM reader r JOIN pg_catalog.pg_depend d ON d.refclassid = r.classid AND d.refobjid = r.objid
    LEFT JOIN pg_catalog.pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
    WHERE w.rulename = '_RETURN' AND w.ev_class <> r.objid OR d.classid = 'pg_proc'::regclass)
SELECT {select} FROM reader r JOIN pg_catalog.pg_class c ON r.classid = 'pg_class'::regclass AND c.oid = r.objid
WHERE c.relkind = 'm'"""
OF_TABLE = READERS.format(
    start="SELECT attrelid, attnum FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND attname = $2",
    select="c.oid::regclass::text AS name",
)
# For envelope.status(): those of all protected tables.
OF_ALL = READERS.format(
    start="SELECT a.attrelid, a.attnum FROM envelope_private.protected_column p"
    " JOIN pg_catalog.pg_attribute a ON a.attrelid = p.view AND a.attname = p.attname",
    select="string_agg(c.oid::regclass::text, ', ' ORDER BY c.oid::regclass::text) AS found, count(*) AS count",
)


def find(host: Host, oid: int, columns: Collection[str]) -> dict[str, list[str]]:
    """Returns the materialized views that read these columns of a table, at whatever distance, by the column."""
    found = {name: host.rows(OF_TABLE, ["oid", "name"], [oid, name]) for name in columns}
    return {name: sorted(row["name"] for row in rows) for name, rows in found.items()}
