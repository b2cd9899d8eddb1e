-- Generated views and triggers, and users, call these functions for each value: the hot path. VOLATILE and STABLE
-- matter: an IMMUTABLE decrypt would be folded into plans and shown by EXPLAIN. PARALLEL UNSAFE: before PostgreSQL 17 a
-- query run from PL/Python, which a missing key needs, is refused while a parallel plan runs. Functions that are called
-- for each value have arguments without names. PL/Python makes no variables of them, which saves a twentieth of a scan.
-- The functions' comments name the arguments.

-- Functions with a capability: the right comes from the path, which is the view's or the trigger's owner.

CREATE FUNCTION envelope_internal.decrypt_text(envelope.ciphertext, bytea, text) RETURNS text
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].decrypt_text(*args)
$$;
COMMENT ON FUNCTION envelope_internal.decrypt_text(envelope.ciphertext, bytea, text) IS
    'used by decrypting views: the text in an envelope; its arguments are the envelope, the capability and the row key';

CREATE FUNCTION envelope_internal.decrypt_bytea(envelope.ciphertext, bytea, text) RETURNS bytea
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].decrypt_bytea(*args)
$$;
COMMENT ON FUNCTION envelope_internal.decrypt_bytea(envelope.ciphertext, bytea, text) IS
    'used by decrypting views: the bytea in an envelope; its arguments are the envelope, the capability and the row key';

CREATE FUNCTION envelope_internal.encrypt_text(text, bytea, text, text DEFAULT NULL) RETURNS envelope.ciphertext
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].encrypt_text(*args)
$$;
COMMENT ON FUNCTION envelope_internal.encrypt_text(text, bytea, text, text) IS
    'used by triggers: a new envelope for a text; its arguments are the text, the seal, the row key and the tenant or subject';

CREATE FUNCTION envelope_internal.encrypt_bytea(bytea, bytea, text, text DEFAULT NULL) RETURNS envelope.ciphertext
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].encrypt_bytea(*args)
$$;
COMMENT ON FUNCTION envelope_internal.encrypt_bytea(bytea, bytea, text, text) IS
    'used by triggers: a new envelope for a bytea; its arguments are the bytea, the seal, the row key and the tenant or subject';

CREATE FUNCTION envelope_internal.reseal(envelope.ciphertext, bytea, text, text DEFAULT NULL)
    RETURNS envelope.ciphertext
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].reseal(*args)
$$;
COMMENT ON FUNCTION envelope_internal.reseal(envelope.ciphertext, bytea, text, text) IS
    'used by reencrypt: the same value under the newest key; NULL for a value that has this key, or does not open. Its arguments are the envelope, the seal, the row key and the tenant or subject';

-- Functions that ask for the role's right: for views that run as their caller (row-level security), and for a table's
-- owner.

CREATE FUNCTION envelope_internal.decrypt_text_as_role(envelope.ciphertext, uuid, text) RETURNS text
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].decrypt_text_as_role(*args)
$$;
COMMENT ON FUNCTION envelope_internal.decrypt_text_as_role(envelope.ciphertext, uuid, text) IS
    'used by views under row-level security: the text in an envelope; its arguments are the envelope, the field and the row key';

CREATE FUNCTION envelope_internal.decrypt_bytea_as_role(envelope.ciphertext, uuid, text) RETURNS bytea
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].decrypt_bytea_as_role(*args)
$$;
COMMENT ON FUNCTION envelope_internal.decrypt_bytea_as_role(envelope.ciphertext, uuid, text) IS
    'used by views under row-level security: the bytea in an envelope; its arguments are the envelope, the field and the row key';

CREATE FUNCTION envelope_internal.encrypt_text_as_role(text, uuid, text, text DEFAULT NULL) RETURNS envelope.ciphertext
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].encrypt_text_as_role(*args)
$$;
COMMENT ON FUNCTION envelope_internal.encrypt_text_as_role(text, uuid, text, text) IS
    'used under row-level security: a new envelope for a text; its arguments are the text, the field, the row key and the tenant or subject';

CREATE FUNCTION envelope_internal.encrypt_bytea_as_role(bytea, uuid, text, text DEFAULT NULL)
    RETURNS envelope.ciphertext
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].encrypt_bytea_as_role(*args)
$$;
COMMENT ON FUNCTION envelope_internal.encrypt_bytea_as_role(bytea, uuid, text, text) IS
    'used under row-level security: a new envelope for a bytea; its arguments are the bytea, the field, the row key and the tenant or subject';

CREATE FUNCTION envelope_internal.fault_as_role(value envelope.ciphertext, field uuid, row_key text) RETURNS text
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].fault_as_role(value, field, row_key)
$$;
COMMENT ON FUNCTION envelope_internal.fault_as_role(envelope.ciphertext, uuid, text) IS
    'used by verify, reencrypt and unprotect: why an envelope does not open; NULL for an envelope that opens';

-- Jobs call these after a statement has failed by one value, because a subtransaction costs more than opening the
-- value.

CREATE FUNCTION envelope_internal.readable(value envelope.ciphertext)
    RETURNS envelope.ciphertext
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF substr(value, 1) IS NULL THEN
        RETURN NULL;
    END IF;
    RETURN value;
EXCEPTION WHEN data_corrupted OR index_corrupted THEN
    RETURN NULL;
END $$;
COMMENT ON FUNCTION envelope_internal.readable IS
    'used by reencrypt and the guard of a base table: the envelope; NULL where the server cannot read its bytes';

CREATE FUNCTION envelope_internal.fault_carefully(value envelope.ciphertext, field uuid, row_key text, reads text)
    RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    reason text;
    absent boolean;
BEGIN
    IF value IS NULL OR envelope_internal.readable(value) IS NULL THEN
        RETURN CASE WHEN value IS NOT NULL THEN 'storage damaged' END;
    END IF;
    reason := envelope_internal.fault_as_role(value, field, row_key);
    IF reason IS NULL THEN
        EXECUTE reads INTO absent USING value, field, row_key;
    END IF;
    RETURN reason;
EXCEPTION WHEN data_corrupted OR data_exception OR integrity_constraint_violation OR raise_exception THEN
    RETURN 'not of its type';
END $$;
COMMENT ON FUNCTION envelope_internal.fault_carefully IS
    'used by verify, reencrypt and unprotect: why an envelope gives no value; `reads` is the query of its column over $1, $2, $3';

CREATE FUNCTION envelope_internal.no_value(capability bytea) RETURNS boolean
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].no_value(capability)
$$;
COMMENT ON FUNCTION envelope_internal.no_value(bytea) IS
    'used by has_value: raises the error of a value that does not open; false in an UPDATE that replaces the value';

CREATE FUNCTION envelope_internal.no_value(field uuid) RETURNS boolean
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].no_value(field)
$$;
COMMENT ON FUNCTION envelope_internal.no_value(uuid) IS
    'used by has_value under row-level security: raises the error of a value that does not open, or gives false';

CREATE FUNCTION envelope_internal.has_value(value envelope.ciphertext, capability anyelement, row_key text, reads text)
    RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    absent boolean;
BEGIN
    IF value IS NULL THEN
        RETURN true;
    ELSIF envelope_internal.readable(value) IS NOT NULL THEN
        BEGIN
            EXECUTE reads INTO absent USING value, capability, row_key;
            RETURN true;
        EXCEPTION
            WHEN data_corrupted OR object_not_in_prerequisite_state THEN
                -- It does not open. The next decryption raises that error, outside of this subtransaction.
                RETURN true;
            WHEN data_exception OR integrity_constraint_violation OR raise_exception THEN
                NULL;
        END;
    END IF;
    RETURN envelope_internal.no_value(capability);
END $$;
COMMENT ON FUNCTION envelope_internal.has_value IS
    'used by views of columns in which verify has found envelopes that give no value: true for an envelope that may be decrypted';

-- Named keys, for use outside protected tables.

CREATE FUNCTION envelope.encrypt(value text, key text, context text DEFAULT '') RETURNS envelope.ciphertext
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].encrypt_named_text(value, key, context)
$$;
COMMENT ON FUNCTION envelope.encrypt(text, text, text) IS
    'encrypts a text under a named key that was granted to the current role; decrypt needs the same context';

CREATE FUNCTION envelope.encrypt(value bytea, key text, context text DEFAULT '') RETURNS envelope.ciphertext
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].encrypt_named_bytea(value, key, context)
$$;
COMMENT ON FUNCTION envelope.encrypt(bytea, text, text) IS
    'encrypts a bytea under a named key that was granted to the current role; decrypt needs the same context';

CREATE FUNCTION envelope.decrypt(value envelope.ciphertext, context text DEFAULT '') RETURNS text
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].decrypt_named_text(value, context)
$$;
COMMENT ON FUNCTION envelope.decrypt(envelope.ciphertext, text) IS
    'decrypts a text that encrypt() sealed; its key must be granted to the current role';

CREATE FUNCTION envelope.decrypt_bytea(value envelope.ciphertext, context text DEFAULT '') RETURNS bytea
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].decrypt_named_bytea(value, context)
$$;
COMMENT ON FUNCTION envelope.decrypt_bytea(envelope.ciphertext, text) IS
    'decrypts a bytea that encrypt() sealed; its key must be granted to the current role';

-- A statement asks it for the right, because it costs less than a function. A column that is not asked for is not read.
-- security_barrier: a condition of the reader sees no other role's grants.
CREATE VIEW envelope_internal.granted_key WITH (security_barrier) AS
    SELECT g.key_uuid,
        (SELECT k.name FROM envelope_private.key k WHERE k.key_uuid = g.key_uuid) AS name,
        (SELECT substr(c.seal, 17) FROM envelope_private.field f JOIN envelope_private.capability c USING (field_uuid)
            WHERE f.key_uuid = g.key_uuid AND f.bind <> 'search') AS header
    FROM envelope_private.key_grant g
    WHERE pg_has_role(g.role, 'USAGE');
COMMENT ON VIEW envelope_internal.granted_key IS
    'the named keys that were granted to the current role, with the headers of the envelopes that they make now';

-- Tenant and subject scope.

CREATE FUNCTION envelope.is_stale(value envelope.ciphertext) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT CASE WHEN octet_length(value) > 5 THEN coalesce((
        SELECT fk.state <> 'active' AND d.version > 0 AND 'destroyed' NOT IN (fk.state, d.state) AND d.state <> 'suspended'
        FROM envelope_private.field_key fk JOIN envelope_private.dek d USING (dek_id)
        WHERE fk.key_id = envelope_private.key_id_of(value)), true) ELSE false END;
END;
COMMENT ON FUNCTION envelope.is_stale IS
    'tells whether reencrypt would renew an envelope: it is not under the active key of its column, tenant or subject. False for a destroyed or suspended key, where reencrypt cannot help, and for a canary. SECURITY DEFINER: reads the key catalog';

CREATE FUNCTION envelope.prefetch(rel regclass, scopes text[]) RETURNS bigint
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].prefetch(rel, scopes)
$$;
COMMENT ON FUNCTION envelope.prefetch IS
    'fetches the keys of many tenants or subjects of a protected table at once, for the columns that the current role may read; returns how many';
