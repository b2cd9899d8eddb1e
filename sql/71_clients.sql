-- For clients that seal and open outside the server: docs/client.md. The broker's door decides who gets the key itself.

CREATE FUNCTION envelope_private.plain_type(type oid, typmod integer) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE chain (type, typmod, depth) AS (
        SELECT $1, $2, 0
        UNION ALL
        SELECT t.typbasetype, CASE chain.typmod WHEN -1 THEN t.typtypmod ELSE chain.typmod END, chain.depth + 1
        FROM chain JOIN pg_type t ON t.oid = chain.type AND t.typtype = 'd')
    SELECT format_type(chain.type, chain.typmod) FROM chain ORDER BY depth DESC LIMIT 1;
END;
COMMENT ON FUNCTION envelope_private.plain_type IS 'the type under a domain, at any depth, with its length or precision';

CREATE FUNCTION envelope_private.field_of_column(rel regclass, "column" name) RETURNS uuid
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_uuid uuid := (
        SELECT c.field_uuid FROM envelope_private.protected_column c
        WHERE rel IN (c.view, c.base) AND c.attname = "column" AND c.bind <> 'search');
BEGIN
    IF found_uuid IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = 'this is no protected column',
            HINT = 'envelope.columns lists the protected columns.';
    END IF;
    RETURN found_uuid;
END $$;
COMMENT ON FUNCTION envelope_private.field_of_column IS 'the field of a protected column, or an error';

CREATE FUNCTION envelope_private.field_of_key(name text) RETURNS uuid
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT f.field_uuid FROM envelope_private.field f WHERE f.key_uuid = envelope_private.named_key(name);
END;
COMMENT ON FUNCTION envelope_private.field_of_key IS 'the field of a named key, or an error';

CREATE FUNCTION envelope_private.unaudited(field uuid) RETURNS uuid
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- A set_audit() at the same time either waits for this lock, or is seen.
    PERFORM FROM envelope_private.field f WHERE f.field_uuid = field AND f.audit = 'none' FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'its reads are audited, and the ledger of reads would not see those of a client',
            HINT = 'End the audit first: CALL envelope.set_audit(..., ''none''), or set_audit_key for a named key. The broker''s audit log then has each key that a client gets.';
    END IF;
    IF EXISTS (SELECT FROM envelope_private.mask m WHERE m.field_uuid = field) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'the column has masks, and a client would see its values',
            HINT = 'End the masks first: SELECT envelope.unmask(...).';
    END IF;
    RETURN field;
END $$;
COMMENT ON FUNCTION envelope_private.unaudited IS 'the same field, or an error if its reads are audited or masked';

CREATE FUNCTION envelope.grant_client(rel regclass, "column" name, role regrole) RETURNS uuid
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO envelope_private.client_grant (field_uuid, role)
        VALUES (envelope_private.unaudited(envelope_private.field_of_column(rel, "column")), role) ON CONFLICT DO NOTHING;
    SELECT envelope_private.field_of_column(rel, "column");
END;
COMMENT ON FUNCTION envelope.grant_client IS
    'lets a role, and its members, learn what a client needs to seal and open a column outside the server; returns the uuid of the field, for the broker''s configuration';

CREATE FUNCTION envelope.revoke_client(rel regclass, "column" name, role regrole) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    DELETE FROM envelope_private.client_grant g
        WHERE g.field_uuid = envelope_private.field_of_column(rel, "column") AND g.role = $3;
END;
COMMENT ON FUNCTION envelope.revoke_client IS
    'takes back grant_client. A client keeps the keys that it has until it asks again: only rotation makes them useless for new values';

CREATE FUNCTION envelope.grant_client_key(name text, role regrole) RETURNS uuid
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO envelope_private.client_grant (field_uuid, role)
        VALUES (envelope_private.unaudited(envelope_private.field_of_key(name)), role) ON CONFLICT DO NOTHING;
    SELECT envelope_private.field_of_key(name);
END;
COMMENT ON FUNCTION envelope.grant_client_key IS
    'as grant_client, for a named key; returns the uuid of its field, for the broker''s configuration';

CREATE FUNCTION envelope.revoke_client_key(name text, role regrole) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    DELETE FROM envelope_private.client_grant g
        WHERE g.field_uuid = envelope_private.field_of_key(name) AND g.role = $2;
END;
COMMENT ON FUNCTION envelope.revoke_client_key IS 'takes back grant_client_key';

CREATE FUNCTION envelope_private.field_of_search(rel regclass, search_column name) RETURNS uuid
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_uuid uuid := (
        SELECT s.search_uuid FROM envelope_private.search s JOIN envelope_private.protected_column c USING (field_uuid)
        WHERE rel IN (c.view, c.base) AND s.attname = search_column);
BEGIN
    IF found_uuid IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = 'this is no search column',
            HINT = 'envelope.searches lists the search columns.';
    END IF;
    RETURN found_uuid;
END $$;
COMMENT ON FUNCTION envelope_private.field_of_search IS 'the field of a search column''s key, or an error';

CREATE FUNCTION envelope.grant_client_search(rel regclass, search_column name, role regrole) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_uuid uuid := envelope_private.field_of_search(rel, search_column);
BEGIN
    -- A column that joins the key at the same time either waits for this lock, or is seen.
    PERFORM FROM envelope_private.field f WHERE f.field_uuid = found_uuid FOR NO KEY UPDATE;
    -- The key is that of all columns that share it.
    PERFORM envelope_private.unaudited(s.field_uuid) FROM envelope_private.search s WHERE s.search_uuid = found_uuid;
    INSERT INTO envelope_private.client_grant (field_uuid, role) VALUES (found_uuid, role) ON CONFLICT DO NOTHING;
    RETURN found_uuid;
END $$;
COMMENT ON FUNCTION envelope.grant_client_search IS
    'lets a role, and its members, learn what a client needs to make the tokens of a search column outside the server; returns the uuid of the search key''s field, for the broker''s configuration';

CREATE FUNCTION envelope.revoke_client_search(rel regclass, search_column name, role regrole) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    DELETE FROM envelope_private.client_grant g
        WHERE g.field_uuid = envelope_private.field_of_search(rel, search_column) AND g.role = $3;
END;
COMMENT ON FUNCTION envelope.revoke_client_search IS
    'takes back grant_client_search. A client keeps the key that it has until it asks again: only rotate_search makes it useless';

-- What a client asks, with the right of its role.

CREATE FUNCTION envelope_internal.client_search(rel regclass, search_column name) RETURNS jsonb
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].clients.search(rel, search_column)
$$;
COMMENT ON FUNCTION envelope_internal.client_search IS
    'used by clients: how the tokens of a search column are made; the role needs grant_client_search';

CREATE FUNCTION envelope_internal.client_field(rel regclass, "column" name) RETURNS jsonb
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].clients.field(rel, column)
$$;
COMMENT ON FUNCTION envelope_internal.client_field IS
    'used by clients: how the values of a column are sealed and bound; the role needs grant_client';

CREATE FUNCTION envelope_internal.client_named(name text) RETURNS jsonb
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].clients.named(name)
$$;
COMMENT ON FUNCTION envelope_internal.client_named IS
    'used by clients: the same for a named key; the role needs grant_client_key';

CREATE FUNCTION envelope_internal.client_secret(name text) RETURNS jsonb
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].clients.secret(name)
$$;
COMMENT ON FUNCTION envelope_internal.client_secret IS
    'used by clients: the two newest versions of a secret, sealed; the role needs grant_client_key';

CREATE FUNCTION envelope_internal.client_secrets(prefix text) RETURNS jsonb
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].clients.secrets(prefix)
$$;
COMMENT ON FUNCTION envelope_internal.client_secrets IS
    'used by clients: the names of the secrets that the role may have and that begin with the prefix';

-- Nobody but a superuser may call it until EXECUTE is granted. The grant of the key is needed as well.
CREATE FUNCTION envelope.store_secret(name text, version integer, sealed envelope.ciphertext) RETURNS integer
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].clients.store_secret(name, version, sealed)
$$;
COMMENT ON FUNCTION envelope.store_secret IS
    'stores what a client has sealed as the next version of a secret; the role needs grant_client_key and EXECUTE. pg-envelope secret set uses it';

CREATE FUNCTION envelope_internal.client_key(field uuid, key_id bigint, scope text) RETURNS jsonb
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].clients.key(field, key_id, scope)
$$;
COMMENT ON FUNCTION envelope_internal.client_key IS
    'used by clients: the key catalog''s row for a key id, or without one for the active key of the field, tenant or subject, or after an erasure for the destroyed one; NULL if there is none';

CREATE FUNCTION envelope_internal.client_messages(field uuid, key_id bigint, blocks integer) RETURNS bigint
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].clients.messages(field, key_id, blocks)
$$;
COMMENT ON FUNCTION envelope_internal.client_messages IS
    'used by clients: reserves blocks of messages under an active key (FORMAT.md section 1.4); returns how many messages';
