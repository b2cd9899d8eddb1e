"""Finds dependents whose text would run code of another role than their owner when it is read again.

PostgreSQL read their literals once, when they were made. The check of a domain inside an array, range or row could do
something else by now. So a literal of such a type must belong to the same role, or to a superuser.
"""

from __future__ import annotations

from pg_envelope.backend.host import Host
from pg_envelope.backend.tables.dependents.graph import Graph, by_column

# A literal of a domain itself is a literal of its base type, which runs no CHECK when it is read.
FOREIGN = """
WITH used (classid, objid, what, owner, tree) AS (
    SELECT u.classid, u.objid, CASE WHEN w.rulename = '_RETURN' THEN pg_describe_object('pg_class'::regclass, c.oid, 0)
            ELSE pg_describe_object(u.classid, u.objid, 0) END, coalesce(c.relowner, f.proowner),
        concat(w.ev_action, w.ev_qual, p.polqual, p.polwithcheck, f.prosqlbody, f.proargdefaults)
    FROM unnest($1::oid[], $2::oid[]) AS u (classid, objid)
    LEFT JOIN pg_catalog.pg_rewrite w ON u.classid = 'pg_rewrite'::regclass AND w.oid = u.objid
    LEFT JOIN pg_catalog.pg_policy p ON u.classid = 'pg_policy'::regclass AND p.oid = u.objid
    LEFT JOIN pg_catalog.pg_proc f ON u.classid = 'pg_proc'::regclass AND f.oid = u.objid
    LEFT JOIN pg_catalog.pg_class c ON c.oid IN (w.ev_class, p.polrelid)
    UNION ALL
    SELECT 'pg_class'::regclass, i.indexrelid, pg_describe_object('pg_class'::regclass, i.indexrelid, 0), c.relowner,
        concat(i.indexprs, i.indpred)
    FROM unnest($1::oid[], $2::oid[]) AS u (classid, objid)
    JOIN pg_catalog.pg_rewrite w ON u.classid = 'pg_rewrite'::regclass AND w.oid = u.objid
    JOIN pg_catalog.pg_index i ON i.indrelid = w.ev_class JOIN pg_catalog.pg_class c ON c.oid = i.indrelid)
SELECT DISTINCT u.what, format_type(d.refobjid, NULL) AS type, r.rolname AS role
FROM used u JOIN pg_catalog.pg_depend d
    ON d.classid = u.classid AND d.objid = u.objid AND d.refclassid = 'pg_type'::regclass
CROSS JOIN LATERAL envelope_private.type_parts(d.refobjid) AS part (type)
JOIN pg_catalog.pg_type t ON t.oid = part.type AND t.typtype = 'd' AND t.oid <> d.refobjid AND t.typowner <> u.owner
JOIN pg_catalog.pg_roles r ON r.oid = t.typowner AND NOT r.rolsuper
WHERE u.tree LIKE '%:consttype ' || d.refobjid || ' %' ORDER BY 1, 2"""


def obstacles(host: Host, graph: Graph) -> list[str]:
    """Returns a line for each such dependent."""
    found = host.rows(FOREIGN, ["oid[]", "oid[]"], by_column(node.user for node in graph.nodes))
    return [
        f"{row['what']} has a literal of type {row['type']}, and reading it would run code of {row['role']}"
        for row in found
    ]
