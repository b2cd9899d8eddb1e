-- Environments, and DEKs into a backup and out of it. Superusers only: these write the key catalog.

-- A procedure that commits, as rotate_kek: neither SECURITY DEFINER nor SET.
CREATE PROCEDURE envelope.rekey(from_environment text, from_kek text DEFAULT NULL, to_kek text DEFAULT NULL)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.keks.rekey(from_environment, from_kek, to_kek)
$$;
COMMENT ON PROCEDURE envelope.rekey IS
    'moves a copy of a database into the broker''s environment: wraps all DEKs anew under a new database uuid; data is not touched. from_kek, to_kek: names of KEKs in the broker''s configuration, by default as in the catalog';

CREATE FUNCTION envelope_private.keys_backup_place()
    RETURNS TABLE (public_key text, environment text, database_uuid uuid)
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.backups.keys_backup_place()
$$;
COMMENT ON FUNCTION envelope_private.keys_backup_place IS 'the broker''s break-glass key, and the environment and database uuid that sealed DEKs are bound to';

CREATE FUNCTION envelope_private.keys_backup(after bigint, how_many integer)
    RETURNS TABLE (dek_id bigint, key_uuid text, label text, version integer, state text, kek text, store text,
        kek_version integer, fingerprint text, sealed text, error text)
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.backups.keys_backup(after, how_many)
$$;
COMMENT ON FUNCTION envelope_private.keys_backup IS
    'the next DEKs with an id above `after`, sealed by the broker for the break-glass key; destroyed ones are left out';

CREATE FUNCTION envelope_private.keys_return_key(kek text)
    RETURNS TABLE (public_key text, environment text, database_uuid uuid)
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.backups.keys_return_key(kek)
$$;
COMMENT ON FUNCTION envelope_private.keys_return_key IS 'the public key for which returning DEKs must be sealed';

CREATE FUNCTION envelope_private.keys_return(kek text, public_key text, dek_ids bigint[], sealed text[])
    RETURNS TABLE (dek_id bigint, error text)
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.backups.keys_return(kek, public_key, dek_ids, sealed)
$$;
COMMENT ON FUNCTION envelope_private.keys_return IS
    'returns DEKs of a backup: the broker wraps them under a KEK, and they are written to the catalog. error is NULL for DEKs that are back';
