-- Tables, for DBAs. Not SECURITY DEFINER: all of them meet the table owner's code. Those that commit have no SET
-- either: a SET clause ends with the routine, not with the caller's transaction.

CREATE PROCEDURE envelope.protect(
    rel regclass, columns jsonb, kek text DEFAULT 'default', store text DEFAULT NULL, scope text DEFAULT 'table',
    scope_column name DEFAULT NULL, scope_of regclass DEFAULT NULL, erased text DEFAULT 'error',
    keep_copies boolean DEFAULT false, dry_run boolean DEFAULT false, online boolean DEFAULT false,
    batch_size integer DEFAULT 200, pause_ms integer DEFAULT 0, max_lag_mb integer DEFAULT 64)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.tables.protect(rel, columns, kek, store, scope, scope_column, scope_of, erased, keep_copies, dry_run, online, batch_size, pause_ms, max_lag_mb)
$$;
COMMENT ON PROCEDURE envelope.protect IS
    'encrypts columns of a table: ["email", ...] or {"email": {"bind": "row"|"column", "suite": 1, "pad": true}, ...}. keep_copies: materialized views may hold the columns in the clear. dry_run: only print envelope.plan(). With online => true the table stays in use: it commits after about batch_size rows, and called again it goes on. It waits for standbys that have more than max_lag_mb to replay. Not inside a transaction then. It also takes further columns of a protected table';

CREATE PROCEDURE envelope.protect_tables(
    tables jsonb, kek text DEFAULT 'default', store text DEFAULT NULL, keep_copies boolean DEFAULT false)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.tables.protect_tables(tables, kek, store, keep_copies)
$$;
COMMENT ON PROCEDURE envelope.protect_tables IS
    'protects several tables in one transaction, and carries over the foreign keys between their protected columns. tables has for each table what columns is for protect(): {"customer": ["email"], "invoice": {"customer_email": {}}}';

CREATE FUNCTION envelope.plan(
    rel regclass, columns jsonb, scope text DEFAULT 'table', scope_column name DEFAULT NULL, scope_of regclass DEFAULT NULL,
    keep_copies boolean DEFAULT false)
    RETURNS TABLE (step text, object text, detail text)
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.tables.plan(rel, columns, scope, scope_column, scope_of, keep_copies)
$$;
COMMENT ON FUNCTION envelope.plan IS
    'what protect() would do with a table: obstacles, locks, rows, bytes, time, statements, dependents, and what will be different. It changes nothing';

CREATE PROCEDURE envelope.unprotect(
    rel regclass, damaged text DEFAULT 'error', online boolean DEFAULT false, batch_size integer DEFAULT 200,
    pause_ms integer DEFAULT 0, max_lag_mb integer DEFAULT 64, columns jsonb DEFAULT NULL)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.tables.unprotect(rel, damaged, online, batch_size, pause_ms, max_lag_mb, columns)
$$;
COMMENT ON PROCEDURE envelope.unprotect IS
    'turns a protected table back into a plain one; damaged => ''null'' writes NULL for values that nobody can open any more. With online => true the table stays in use: it commits after about batch_size rows, and called again it goes on. It also takes back a protect(online) that is not at its end. columns names some columns, ["email", ...]: the others stay protected';

CREATE PROCEDURE envelope.refresh(rel regclass)
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.tables.refresh(rel)
$$;
COMMENT ON PROCEDURE envelope.refresh IS
    'makes view and triggers again after ALTER TABLE on the base table: new or renamed columns, another owner. For the owner of the table, and superusers';

CREATE PROCEDURE envelope.allow_upsert(rel regclass)
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.tables.allow_upsert(rel)
$$;
COMMENT ON PROCEDURE envelope.allow_upsert IS
    'makes the relation <table>_upsert beside a protected table. It takes INSERT ... ON CONFLICT DO UPDATE';

CREATE PROCEDURE envelope.drop_upsert(rel regclass)
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.tables.drop_upsert(rel)
$$;
COMMENT ON PROCEDURE envelope.drop_upsert IS 'drops what allow_upsert() made';

CREATE FUNCTION envelope.relations()
    RETURNS TABLE (relation regclass, base_table regclass, upsert_relation regclass, search_columns jsonb, unique_constraints jsonb)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT t.view, t.base, (
        SELECT r.ev_class FROM pg_attribute a
        JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid
            AND d.refobjsubid = a.attnum AND d.classid = 'pg_rewrite'::regclass
        JOIN pg_rewrite r ON r.oid = d.objid
        JOIN pg_description o ON o.classoid = 'pg_class'::regclass AND o.objoid = r.ev_class AND o.objsubid = 0
            AND starts_with(o.description, 'pg_envelope: ')
        WHERE a.attrelid = t.base AND a.atttypid = 'envelope.input'::regtype LIMIT 1), (
        SELECT coalesce(jsonb_object_agg(s.attname, f.attname), '{}')
        FROM envelope_private.field f JOIN envelope_private.search s USING (field_uuid)
        WHERE f.key_uuid = t.key_uuid AND s.is_filled), (
        SELECT coalesce(jsonb_object_agg(c.relname, jsonb_build_object(
            'nulls_not_distinct', i.indnullsnotdistinct, 'columns', ARRAY(
                SELECT a.attname FROM unnest(i.indkey) WITH ORDINALITY k (attnum, place)
                JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum ORDER BY k.place))), '{}')
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        JOIN envelope_private.carried d ON d.key_uuid = t.key_uuid AND d.name = c.relname
            AND (d.definition ->> 'is_constraint')::bool
        WHERE i.indrelid = t.base)
    FROM envelope_private.protected_table t WHERE t.view_relname IS NOT NULL;
END;
COMMENT ON FUNCTION envelope.relations IS
    'for applications: each protected table, its base table, its upsert relation if allow_upsert() made one, which column each search column finds, and the columns of its UNIQUE constraints for which indexes of tokens stand. SECURITY DEFINER: reads the key catalog';

CREATE PROCEDURE envelope.truncate(
    rel regclass, restart_identity boolean DEFAULT false, "cascade" boolean DEFAULT false)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.tables.truncate(rel, restart_identity, cascade)
$$;
COMMENT ON PROCEDURE envelope.truncate IS
    'TRUNCATE of a protected table, with the rights of who calls it: the privilege is on the base table, where protect() and refresh() put it';

CREATE PROCEDURE envelope.reencrypt(
    rel regclass, batch_size integer DEFAULT 1000, pause_ms integer DEFAULT 0, part integer DEFAULT 1,
    parts integer DEFAULT 1, newest_first boolean DEFAULT false, max_lag_mb integer DEFAULT 64)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.jobs.reencrypt(rel, batch_size, pause_ms, part, parts, newest_first, max_lag_mb)
$$;
COMMENT ON PROCEDURE envelope.reencrypt IS
    'brings old values to the newest key version, in transactions of about batch_size rows, and makes a receipt. Values that do not open are left, with a warning. With parts, several sessions can each take a part. It waits for standbys that have more than max_lag_mb to replay. Not inside a transaction';

CREATE FUNCTION envelope.status() RETURNS TABLE (check_name text, state text, detail text, hint text)
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.reports.status()
$$;
COMMENT ON FUNCTION envelope.status IS 'one row per check: its state (ok, warning or failed), detail and hint';
