-- Keys, for DBAs. SECURITY DEFINER, so that EXECUTE alone can be granted to a role that administers keys.

CREATE FUNCTION envelope.create_key(name text, kek text DEFAULT 'default', store text DEFAULT NULL) RETURNS uuid
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope.bootstrap()')
return GD['pg_envelope'].admin.create_key(name, kek, store)
$$;
COMMENT ON FUNCTION envelope.create_key IS
    'makes a named key under a KEK of the broker''s configuration; store: vault or catalog, by default the KEK''s own';

CREATE FUNCTION envelope.rotate(rel regclass) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ BEGIN RETURN envelope_private.rotate(rel::oid); END $$;
COMMENT ON FUNCTION envelope.rotate IS
    'a new key version for a protected table, used by the next write; returns it. Old values stay readable';

CREATE FUNCTION envelope_private.rotate(base oid) RETURNS integer
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope.bootstrap()')
return GD['pg_envelope'].admin.rotate(base)
$$;
COMMENT ON FUNCTION envelope_private.rotate IS 'rotate, by the OID of view or base table';

CREATE FUNCTION envelope.rotate_key(name text) RETURNS integer
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope.bootstrap()')
return GD['pg_envelope'].admin.rotate_key(name)
$$;
COMMENT ON FUNCTION envelope.rotate_key IS 'a new version of a named key, used by the next encrypt(); returns it';

CREATE FUNCTION envelope_private.named_key(key_name text) RETURNS uuid
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE found_uuid uuid;
BEGIN
    SELECT k.key_uuid INTO found_uuid FROM envelope_private.key k WHERE k.name = key_name;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = 'there is no key of this name',
            HINT = 'envelope.keys lists the keys.';
    END IF;
    RETURN found_uuid;
END $$;
COMMENT ON FUNCTION envelope_private.named_key IS 'the uuid of a named key, or an error';

CREATE FUNCTION envelope.grant_key(name text, role regrole) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO envelope_private.key_grant (key_uuid, role)
        VALUES (envelope_private.named_key(name), role) ON CONFLICT DO NOTHING;
END;
COMMENT ON FUNCTION envelope.grant_key IS 'lets a role, and its members, encrypt and decrypt with a named key';

CREATE FUNCTION envelope.revoke_key(name text, role regrole) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    DELETE FROM envelope_private.key_grant g
        WHERE g.key_uuid = envelope_private.named_key($1) AND g.role = $2;
END;
COMMENT ON FUNCTION envelope.revoke_key IS 'takes a named key from a role, from its next statement on';

CREATE FUNCTION envelope_private.retire_key(retired uuid) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    UPDATE envelope_private.field_key fk SET state = 'decrypt-only' FROM envelope_private.field f
        WHERE f.field_uuid = fk.field_uuid AND f.key_uuid = retired AND fk.state = 'active';
    UPDATE envelope_private.dek SET state = 'decrypt-only', state_since = now()
        WHERE key_uuid = retired AND state = 'active';
    UPDATE envelope_private.key SET base = NULL, view = NULL WHERE key_uuid = retired;
    DELETE FROM envelope_private.capability c USING envelope_private.field f
        WHERE f.field_uuid = c.field_uuid AND f.key_uuid = retired;
END;
COMMENT ON FUNCTION envelope_private.retire_key IS 'a table''s key when the table is plain again: kept, used by nobody';

CREATE FUNCTION envelope.flush(reason text DEFAULT '') RETURNS bigint
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope.bootstrap()')
return GD['pg_envelope'].admin.flush(reason)
$$;
COMMENT ON FUNCTION envelope.flush IS
    'empties the broker''s cache and every session''s keyring at its next call; returns the revocation epoch';
