"""Reads from the catalogs what roles may do with protected columns, and what lies between them."""

from __future__ import annotations

from pg_envelope.backend.host import Host, Row

# From PostgreSQL 16 on, a membership may be without SET ROLE.
SET_OPTION_SINCE = 160000
COLUMNS = """
SELECT c.field_uuid, c.attname AS column, a.attnum, t.view AS view_oid, t.view_name, v.relname AS name,
    t.by_role, b.oid AS base_oid, b.relowner AS owner_oid, v.relnamespace AS schema_oid,
    EXISTS (SELECT FROM envelope_private.mask m WHERE m.field_uuid = c.field_uuid) AS is_masked,
    ARRAY(SELECT n.attnum FROM envelope_private.search s
        JOIN pg_attribute n ON n.attrelid = t.view AND n.attname = s.attname
        WHERE s.field_uuid = c.field_uuid AND s.is_filled) AS searches,
    ARRAY(SELECT s.attname::text FROM envelope_private.search s WHERE s.field_uuid = c.field_uuid AND s.is_filled)
        AS search_names
FROM envelope_private.protected_column c JOIN envelope_private.protected_table t USING (key_uuid)
JOIN pg_class b ON b.oid = t.base JOIN pg_class v ON v.oid = t.view
JOIN pg_attribute a ON a.attrelid = t.view AND a.attname = c.attname AND NOT a.attisdropped
ORDER BY t.view_name, a.attnum"""
# $1 view, $2 column number, $3 owner, $4 schema, $5 numbers of search columns, $6 field of a masked column, $7 whether
# there is row-level security.
ROLES = """
SELECT r.oid AS role_oid, r.rolname AS role, r.rolsuper AS is_superuser, r.rolbypassrls AND $7 AS bypasses_rls,
    r.oid = $3 AS is_owner, pg_has_role(r.oid, $3, 'USAGE') AS owns,
    pg_has_role(r.oid, 'pg_read_all_data'::regrole, 'USAGE') AS reads_all,
    u.usable AND has_column_privilege(r.oid, $1, $2, 'SELECT') AS reads,
    u.usable AND EXISTS (SELECT FROM unnest($5) s (n) WHERE has_column_privilege(r.oid, $1, s.n, 'SELECT')) AS searches,
    $6 IS NOT NULL AND envelope_internal.mask_of($6, r.rolname) IS DISTINCT FROM '00000000-0000-0000-0000-000000000000'
        AS sees_mask,
    ARRAY(SELECT DISTINCT CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(g.grantee)::text END
        FROM (
            SELECT x.grantee, x.privilege_type
                FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) x
                WHERE c.oid = $1
            UNION ALL
            SELECT x.grantee, x.privilege_type FROM pg_attribute a, aclexplode(a.attacl) x
                WHERE a.attrelid = $1 AND a.attnum = $2) g
        WHERE g.privilege_type = 'SELECT' AND g.grantee <> $3
            AND (g.grantee = 0 OR pg_has_role(r.oid, g.grantee, 'USAGE')) ORDER BY 1)
        AS grantees,
    ARRAY(SELECT m.rolname::text FROM pg_roles m
        WHERE m.oid <> r.oid AND pg_has_role(r.oid, m.oid, '{become}') ORDER BY 1) AS becomes
FROM pg_roles r CROSS JOIN LATERAL (SELECT has_schema_privilege(r.oid, $4, 'USAGE') AS usable) u
ORDER BY r.rolname"""
ROLE_TYPES = ["oid", "int2", "oid", "oid", "int2[]", "uuid", "bool"]
# Views over a column. PostgreSQL does not record which columns a query uses that uses whole rows: it counts as a reader
# of all. Beyond the first view, any column counts. $1 view, $2 column number.
ABOVE = """
WITH RECURSIVE above (view, source, is_whole) AS (
    SELECT c.oid, d.refobjid, d.refobjsubid <> $2
    FROM pg_depend d JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
    JOIN pg_class c ON c.oid = w.ev_class
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND c.oid <> $1 AND c.relkind IN ('v', 'm')
        AND (d.refobjsubid = $2 OR envelope_private.reads_whole_rows(w.ev_action::text, $1))
    UNION
    SELECT c.oid, d.refobjid, false FROM above
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = above.view
    JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
    JOIN pg_class c ON c.oid = w.ev_class
    WHERE c.oid <> above.view AND c.relkind IN ('v', 'm'))"""
VIEWS = f"""{ABOVE}
SELECT c.oid, n.nspname || '.' || c.relname AS name, c.relkind = 'm' AS is_copy,
    c.relkind = 'm' AND c.relispopulated AS is_filled, pg_get_userbyid(c.relowner)::text AS owner,
    envelope_private.reads_as_user(c.reloptions) AS by_user,
    ARRAY(SELECT r.rolname::text FROM pg_roles r
        WHERE has_schema_privilege(r.oid, c.relnamespace, 'USAGE')
            AND has_any_column_privilege(r.oid, c.oid, 'SELECT')) AS users
FROM (SELECT DISTINCT view FROM above) a JOIN pg_class c ON c.oid = a.view JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY 2"""
# A schema's USAGE is no matter here: the query of a view has no names any more. Whole rows need the right to each
# column.
EDGES = f"""{ABOVE}
SELECT a.view, a.source, ARRAY(SELECT r.rolname::text FROM pg_roles r
    WHERE CASE WHEN a.source <> $1 THEN has_any_column_privilege(r.oid, a.source, 'SELECT')
        WHEN a.is_whole THEN NOT EXISTS (
            SELECT FROM pg_attribute n WHERE n.attrelid = $1 AND n.attnum > 0 AND NOT n.attisdropped
                AND NOT has_column_privilege(r.oid, $1, n.attnum, 'SELECT'))
        ELSE has_column_privilege(r.oid, $1, $2, 'SELECT') END) AS readers
FROM (SELECT view, source, bool_and(is_whole) AS is_whole FROM above GROUP BY 1, 2) a"""
# Bodies are searched for the names of view and column, because PostgreSQL knows what is in them only of the newer kind.
DEFINERS = """
SELECT p.oid::regprocedure::text AS name, pg_get_userbyid(p.proowner)::text AS owner, ARRAY(
        SELECT r.rolname::text FROM pg_roles r
        WHERE has_schema_privilege(r.oid, p.pronamespace, 'USAGE')
            AND has_function_privilege(r.oid, p.oid, 'EXECUTE')) AS users
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.prosecdef AND l.lanname NOT IN ('c', 'internal')
    AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
    AND NOT EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
    AND NOT starts_with(coalesce(obj_description(p.oid, 'pg_proc'), ''), 'pg_envelope: ')
    AND (strpos(lower(p.prosrc), lower($3)) > 0
            AND (strpos(lower(p.prosrc), lower($4)) > 0 OR strpos(p.prosrc, '*') > 0)
        OR EXISTS (
            SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND d.refobjsubid IN (0, $2)))
ORDER BY 1"""


def columns(host: Host) -> list[Row]:
    """Returns the protected columns that have a view."""
    return host.rows(COLUMNS)


def roles(host: Host, column: Row) -> list[Row]:
    """Returns what each role may do with a column, by itself and with the rights that it inherits."""
    (version,) = host.rows("SELECT current_setting('server_version_num')::int AS number")
    query = ROLES.replace("{become}", "SET" if version["number"] >= SET_OPTION_SINCE else "MEMBER")
    names = ("view_oid", "attnum", "owner_oid", "schema_oid", "searches")
    field = column["field_uuid"] if column["is_masked"] else None
    return host.rows(query, ROLE_TYPES, [*(column[name] for name in names), field, column["by_role"]])


def views(host: Host, column: Row) -> list[Row]:
    return host.rows(VIEWS, ["oid", "int2"], [column["view_oid"], column["attnum"]])


def edges(host: Host, column: Row) -> list[Row]:
    """Returns what each view reads, and which roles may read that."""
    return host.rows(EDGES, ["oid", "int2"], [column["view_oid"], column["attnum"]])


def definers(host: Host, column: Row) -> list[Row]:
    names = ("view_oid", "attnum", "name", "column")
    return host.rows(DEFINERS, ["oid", "int2", "text", "text"], [column[name] for name in names])
