-- Keys, for DBAs. SECURITY DEFINER, so that EXECUTE alone can be granted to a role that administers keys.

CREATE FUNCTION envelope.create_key(name text, kek text DEFAULT 'default', store text DEFAULT NULL) RETURNS uuid
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.keys.create_key(name, kek, store)
$$;
COMMENT ON FUNCTION envelope.create_key IS
    'makes a named key under a KEK of the broker''s configuration; store: vault or catalog, by default the KEK''s own';

CREATE FUNCTION envelope.rotate(rel regclass, scope text DEFAULT NULL) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ BEGIN RETURN envelope_private.rotate(rel::oid, scope); END $$;
COMMENT ON FUNCTION envelope.rotate IS
    'makes a new key version for a protected table, or for one tenant or subject of it; returns its number. The next write uses it. Old values stay readable';

CREATE FUNCTION envelope_private.rotate(base oid, scope text) RETURNS integer
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.keys.rotate(base, scope)
$$;
COMMENT ON FUNCTION envelope_private.rotate IS 'rotate, by the OID of view or base table';

CREATE FUNCTION envelope.rotate_key(name text) RETURNS integer
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.keys.rotate_key(name)
$$;
COMMENT ON FUNCTION envelope.rotate_key IS 'makes a new version of a named key, which the next encrypt() uses; returns its number';

CREATE FUNCTION envelope.rotate_field(rel regclass, "column" name) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ BEGIN RETURN envelope_private.rotate_field(rel::oid, "column"); END $$;
COMMENT ON FUNCTION envelope.rotate_field IS
    'makes a new field key, with a new salt, for one protected column; returns its version. The next write uses it';

CREATE FUNCTION envelope_private.rotate_field(base oid, "column" name) RETURNS integer
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.keys.rotate_field(base, column)
$$;
COMMENT ON FUNCTION envelope_private.rotate_field IS 'rotate_field, by the OID of view or base table';

CREATE FUNCTION envelope.compromise(
    rel regclass, version integer, reason text DEFAULT '', scope text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ BEGIN PERFORM envelope_private.compromise(rel::oid, version, reason, scope); END $$;
COMMENT ON FUNCTION envelope.compromise IS
    'marks an old key version of a protected table as compromised: it decrypts, and never encrypts again. scope: one tenant or subject; by default the version of each';

CREATE FUNCTION envelope_private.compromise(base oid, version integer, reason text, scope text) RETURNS void
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.keys.compromise(base, version, reason, scope)
$$;
COMMENT ON FUNCTION envelope_private.compromise IS 'compromise, by the OID of view or base table';

CREATE FUNCTION envelope.compromise_key(name text, version integer, reason text DEFAULT '') RETURNS void
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.keys.compromise_key(name, version, reason)
$$;
COMMENT ON FUNCTION envelope.compromise_key IS
    'marks an old version of a named key as compromised: it decrypts, and never encrypts again';

-- These are procedures, because each batch is committed: a crash then costs one batch, not all. Hence neither SECURITY
-- DEFINER nor SET, with which PostgreSQL forbids COMMIT; they need a superuser and pin the search_path in each
-- transaction.

CREATE PROCEDURE envelope.rotate_kek(kek text)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.keks.rotate_kek(kek)
$$;
COMMENT ON PROCEDURE envelope.rotate_kek IS
    'makes a new version of a KEK in its KMS, then wraps all DEKs of this database under it; data is not touched. Not inside a transaction';

CREATE PROCEDURE envelope.rewrap(kek text)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.keks.rewrap(kek)
$$;
COMMENT ON PROCEDURE envelope.rewrap IS
    'brings all DEKs of this database under a KEK to its newest version; goes on where rotate_kek ended early';

CREATE PROCEDURE envelope.rotate_emergency(rel regclass, reason text, scope text DEFAULT NULL)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.keys.rotate_emergency(rel, reason, scope)
$$;
COMMENT ON PROCEDURE envelope.rotate_emergency IS
    'for keys of a table, or of one tenant or subject in it, that others may know: makes new keys, marks old versions compromised, makes all sessions drop their keys, and re-encrypts all values. Not inside a transaction';

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

-- A session remembers rights by the statement's time, which all statements of one message share.
CREATE FUNCTION envelope_private.forget_rights() RETURNS trigger
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' in GD: GD['pg_envelope'].forget_rights()
$$;
COMMENT ON FUNCTION envelope_private.forget_rights IS
    'makes a right that this session took away end at once, also for the next statement of the same message';

CREATE TRIGGER forget_rights AFTER UPDATE OR DELETE OR TRUNCATE ON envelope_private.key_grant
    FOR EACH STATEMENT EXECUTE FUNCTION envelope_private.forget_rights();

CREATE FUNCTION envelope_private.idle_deks_of(retired uuid) RETURNS uuid
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce(r.scope_of, r.key_uuid) FROM envelope_private.key r
    WHERE r.key_uuid = retired AND NOT EXISTS (
        SELECT FROM envelope_private.key k
        WHERE coalesce(k.scope_of, k.key_uuid) = coalesce(r.scope_of, r.key_uuid) AND k.base IS NOT NULL);
END;
COMMENT ON FUNCTION envelope_private.idle_deks_of IS 'the key whose DEKs a retired key used, when no table uses them any more';

CREATE FUNCTION envelope_private.retire_key(retired uuid) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    UPDATE envelope_private.field_key fk SET state = 'decrypt-only' FROM envelope_private.field f
        WHERE f.field_uuid = fk.field_uuid AND f.key_uuid = retired AND fk.state = 'active';
    UPDATE envelope_private.key SET base = NULL, view = NULL WHERE key_uuid = retired;
    UPDATE envelope_private.dek d SET state = 'decrypt-only', state_since = now()
        WHERE d.key_uuid = envelope_private.idle_deks_of(retired) AND d.state = 'active';
    UPDATE envelope_private.field_key fk SET state = 'decrypt-only' FROM envelope_private.dek d
        WHERE d.key_uuid = envelope_private.idle_deks_of(retired) AND d.dek_id = fk.dek_id AND fk.field_uuid IS NULL
            AND fk.state = 'active';
    DELETE FROM envelope_private.spare_dek WHERE key_uuid = envelope_private.idle_deks_of(retired);
    SELECT nextval('envelope_private.spare_generation');
    DELETE FROM envelope_private.capability c USING envelope_private.field f
        WHERE f.field_uuid = c.field_uuid AND f.key_uuid = retired;
END;
COMMENT ON FUNCTION envelope_private.retire_key IS 'retires the key of a table that is plain again: the key is kept, and nobody uses it';

CREATE FUNCTION envelope.flush(reason text DEFAULT '') RETURNS bigint
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.keys.flush(reason)
$$;
COMMENT ON FUNCTION envelope.flush IS
    'empties the broker''s cache, and makes every session drop its keys at its next call; returns the revocation epoch';
