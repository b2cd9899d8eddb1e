-- The key catalog and the protected tables, read together with PostgreSQL's own catalog.

-- A session plans its query once. As a function of SQL it would be planned anew in each query that calls it.
CREATE FUNCTION envelope_private.base_type(type oid) RETURNS oid
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    reached oid := base_type.type;
    below oid;
BEGIN
    LOOP
        SELECT t.typbasetype INTO below FROM pg_catalog.pg_type t WHERE t.oid = reached AND t.typtype = 'd';
        IF NOT FOUND THEN
            RETURN reached;
        END IF;
        reached := below;
    END LOOP;
END $$;
COMMENT ON FUNCTION envelope_private.base_type IS 'the type under a domain, at any depth; every other type itself';

CREATE FUNCTION envelope_private.type_parts(type oid) RETURNS SETOF oid
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE part (type) AS (
        SELECT $1
        UNION
        SELECT inner_type FROM part JOIN pg_type t ON t.oid = part.type
        LEFT JOIN pg_range r ON part.type IN (r.rngtypid, r.rngmultitypid)
        LEFT JOIN pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped,
        LATERAL unnest(ARRAY[t.typbasetype, t.typelem, r.rngsubtype, a.atttypid]) inner_type
        WHERE inner_type <> 0)
    SELECT part.type FROM part;
END;
COMMENT ON FUNCTION envelope_private.type_parts IS
    'a type and every type inside it: under domains, in arrays, composite types, ranges and multiranges';

CREATE VIEW envelope_private.protected_table AS
    SELECT k.key_uuid, k.base::oid, k.view::oid, n.nspname AS schema, b.relname AS base_name, v.relname AS view_relname,
        quote_ident(n.nspname) || '.' || quote_ident(v.relname) AS view_name, k.row_key, k.by_role, k.as_caller, k.checks::text, k.scope, k.scope_column, k.erased, k.mirrored,
        k.rollout, k.residue,
        coalesce(k.scope_of, k.key_uuid) AS scope_key,
        ARRAY(SELECT o FROM unnest(v.reloptions) o WHERE NOT starts_with(o, 'security_invoker=')) AS view_options,
        v.oid IS NOT NULL AND v.relowner = b.relowner AND b.relrowsecurity = k.by_role
            AND coalesce(v.reloptions, '{}') @> ARRAY['security_invoker=' || k.by_role]
            AND 2 = (SELECT count(*) FROM pg_catalog.pg_trigger t WHERE t.tgrelid = v.oid
                AND t.tgname IN ('envelope_insert', 'envelope_update') AND t.tgenabled = 't')
            AND (SELECT count(*) >= 2 AND bool_and(t.tgenabled = CASE WHEN t.tgqual IS NULL THEN 'A' ELSE 'O' END)
                FROM pg_catalog.pg_trigger t WHERE t.tgrelid = b.oid AND t.tgname LIKE '~envelope\_guard\_%')
            AS intact
    FROM envelope_private.key k
    JOIN pg_catalog.pg_class b ON b.oid = k.base
    JOIN pg_catalog.pg_namespace n ON n.oid = b.relnamespace
    LEFT JOIN pg_catalog.pg_class v ON v.oid = k.view;
COMMENT ON VIEW envelope_private.protected_table IS 'protected tables that exist, and whether view and triggers are intact';

CREATE VIEW envelope_private.protected_column AS
    SELECT f.field_uuid, f.key_uuid, a.attnum, a.attname, t.base, t.view,
        coalesce(t.view_name, t.base::regclass::text) || '.' || a.attname AS label,
        coalesce(format_type(v.atttypid, v.atttypmod), f.plain_type) AS type, p.typname AS base_type, coalesce(e.typname, '') AS element_type, p.typtype = 'e' AS is_enum,
        f.plain_collation::text AS collation, f.plain_storage AS storage, f.bind, f.suite, f.pad, f.audit,
        a.atttypid = 'envelope.ciphertext'::regtype AS is_ciphertext,
        h.attname AS plain_column, f.plain_not_null, f.in_rollout, coalesce(h.attnum, a.attnum) AS place
    FROM envelope_private.protected_table t
    JOIN envelope_private.field f USING (key_uuid)
    -- Columns are found by name, because a restored table may number them anew. The number counts only after a rename
    -- that refresh() has not seen.
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.base AND NOT a.attisdropped AND (
        a.attname = f.attname
        OR a.attnum = f.attnum AND a.atttypid = 'envelope.ciphertext'::regtype AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_attribute n WHERE n.attrelid = t.base AND n.attname = f.attname AND n.attnum > 0))
    LEFT JOIN pg_catalog.pg_attribute h ON h.attrelid = t.base AND h.attname = f.plain_column AND NOT h.attisdropped
    LEFT JOIN pg_catalog.pg_attribute v ON v.attrelid = t.view AND v.attname = f.attname
    LEFT JOIN pg_catalog.pg_type p ON p.oid = envelope_private.base_type(coalesce(v.atttypid, to_regtype(f.plain_type)))
    LEFT JOIN pg_catalog.pg_type e ON e.oid = p.typelem AND p.typcategory = 'A';
COMMENT ON VIEW envelope_private.protected_column IS 'protected columns that exist, with the types of their values in the clear';

CREATE VIEW envelope.columns AS
    SELECT t.view::regclass AS relation, c.attname AS column, c.type, t.base::regclass AS base_table, c.bind, c.suite,
        c.pad, d.kek, d.version AS key_version, fk.key_id, c.field_uuid, t.scope, t.scope_column, c.audit
    FROM envelope_private.protected_column c
    JOIN envelope_private.protected_table t USING (key_uuid)
    LEFT JOIN envelope_private.field_key fk ON fk.field_uuid = c.field_uuid AND fk.state = 'active'
    LEFT JOIN envelope_private.dek d USING (dek_id)
    ORDER BY t.base, c.attnum;
COMMENT ON VIEW envelope.columns IS 'one row per protected column, with the key version that its next write uses';

CREATE VIEW envelope.clients AS
    SELECT g.role, k.name, k.view::regclass AS relation, f.attname AS column, f.field_uuid, g.granted_at
    FROM envelope_private.client_grant g
    JOIN envelope_private.field f USING (field_uuid)
    JOIN envelope_private.key k USING (key_uuid)
    ORDER BY g.role::text, k.name, k.view::text, f.attnum;
COMMENT ON VIEW envelope.clients IS
    'one row per role and field that grant_client, grant_client_key or grant_client_search gave; the broker''s configuration decides who gets the keys';

CREATE VIEW envelope.keys AS
    SELECT k.name, k.view::regclass AS relation, d.version, d.state, d.kek, d.kek_version, d.store, d.dek_id,
        (SELECT array_agg(key_id ORDER BY key_id) FROM envelope_private.field_key fk WHERE fk.dek_id = d.dek_id)
            AS key_ids,
        ARRAY(SELECT g.role::text FROM envelope_private.key_grant g WHERE g.key_uuid = k.key_uuid ORDER BY 1) AS granted_to,
        d.created_at, d.state_since, d.scope
    FROM envelope_private.key k
    JOIN envelope_private.dek d USING (key_uuid)
    ORDER BY k.created_at, d.version;
COMMENT ON VIEW envelope.keys IS 'one row per DEK version: of a named key, a protected table, or a table that was one';
