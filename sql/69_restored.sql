-- Tables that were dropped: a table that is restored from a dump is taken back, and the keys of the others can be
-- destroyed.

CREATE VIEW envelope_private.lost_table AS
    SELECT k.key_uuid, k.row_key, k.scope, k.scope_column, coalesce(k.scope_of, k.key_uuid) AS owner, k.created_at,
        t.oid AS restored
    FROM envelope_private.key k
    LEFT JOIN (
        SELECT a.attrelid AS oid, array_agg(a.attname ORDER BY a.attname) AS columns
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p')
        WHERE a.atttypid = 'envelope.ciphertext'::regtype AND NOT a.attisdropped
            AND NOT EXISTS (SELECT FROM envelope_private.key o WHERE o.base = a.attrelid)
        GROUP BY a.attrelid) t
        ON t.columns = ARRAY(
            SELECT f.attname FROM envelope_private.field f WHERE f.key_uuid = k.key_uuid ORDER BY f.attname)
    WHERE k.base IS NOT NULL AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = k.base);
COMMENT ON VIEW envelope_private.lost_table IS
    'keys whose table was dropped, with each table that has the same encrypted columns and that no key knows: it may be the same one, restored';

CREATE PROCEDURE envelope.adopt_restored(rel regclass, key uuid DEFAULT NULL)
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.tables.adopt_restored(rel, key)
$$;
COMMENT ON PROCEDURE envelope.adopt_restored IS
    'takes a protected table back that was dropped and restored from a dump, with its keys, view and triggers. key: the key, for an empty table that several keys fit';

CREATE VIEW envelope.dropped_keys AS
    SELECT k.key_uuid AS key,
        ARRAY(SELECT f.attname::text FROM envelope_private.field f WHERE f.key_uuid = k.key_uuid ORDER BY f.attnum)
            AS columns,
        k.scope, count(d.dek_id) FILTER (WHERE d.state <> 'destroyed') AS living_versions, k.created_at
    FROM envelope_private.key k JOIN envelope_private.dek d USING (key_uuid)
    WHERE k.name IS NULL AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = k.base)
    GROUP BY k.key_uuid ORDER BY k.created_at;
COMMENT ON VIEW envelope.dropped_keys IS
    'keys of tables that were dropped or unprotected: backups may still hold values under them. shred_dropped destroys them';

-- It commits, as shred: neither SECURITY DEFINER nor SET.
CREATE PROCEDURE envelope.shred_dropped(key uuid, reason text, subject text DEFAULT NULL)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.erasure.shred_dropped(key, reason, subject)
$$;
COMMENT ON PROCEDURE envelope.shred_dropped IS
    'shred, for a table that is gone: destroys its keys, or those of one tenant or subject, so that backups of it are erased. Not inside a transaction';
