-- Adoption of what other software encrypted: docs/adopt.md.

-- Generated views and triggers call these for each value. The right is that of the column: its capability, its seal
-- (which begins with the capability), or the role's right to the field.

CREATE FUNCTION envelope_internal.legacy_text(text, bytea) RETURNS text
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].legacy.text(*args)
$$;
COMMENT ON FUNCTION envelope_internal.legacy_text(text, bytea) IS
    'used by views of columns that are being adopted: the text that other software encrypted to a text; its arguments are the value and the capability';

CREATE FUNCTION envelope_internal.legacy_text(bytea, bytea) RETURNS text
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].legacy.text(*args)
$$;
COMMENT ON FUNCTION envelope_internal.legacy_text(bytea, bytea) IS
    'used by views of columns that are being adopted: the text that other software encrypted to a bytea; its arguments are the value and the capability';

CREATE FUNCTION envelope_internal.legacy_bytea(text, bytea) RETURNS bytea
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].legacy.content(*args)
$$;
COMMENT ON FUNCTION envelope_internal.legacy_bytea(text, bytea) IS
    'used by views of columns that are being adopted: the bytea that other software encrypted to a text; its arguments are the value and the capability';

CREATE FUNCTION envelope_internal.legacy_bytea(bytea, bytea) RETURNS bytea
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].legacy.content(*args)
$$;
COMMENT ON FUNCTION envelope_internal.legacy_bytea(bytea, bytea) IS
    'used by views of columns that are being adopted: the bytea that other software encrypted to a bytea; its arguments are the value and the capability';

CREATE FUNCTION envelope_internal.legacy_text_as_role(text, uuid) RETURNS text
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].legacy.text_as_role(*args)
$$;
COMMENT ON FUNCTION envelope_internal.legacy_text_as_role(text, uuid) IS
    'used under row-level security and by convert: what legacy_text gives, by the current role''s right to the field; its arguments are the value and the field';

CREATE FUNCTION envelope_internal.legacy_text_as_role(bytea, uuid) RETURNS text
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].legacy.text_as_role(*args)
$$;
COMMENT ON FUNCTION envelope_internal.legacy_text_as_role(bytea, uuid) IS
    'used under row-level security and by convert: what legacy_text gives, by the current role''s right to the field; its arguments are the value and the field';

CREATE FUNCTION envelope_internal.legacy_bytea_as_role(text, uuid) RETURNS bytea
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].legacy.content_as_role(*args)
$$;
COMMENT ON FUNCTION envelope_internal.legacy_bytea_as_role(text, uuid) IS
    'used under row-level security and by convert: what legacy_bytea gives, by the current role''s right to the field; its arguments are the value and the field';

CREATE FUNCTION envelope_internal.legacy_bytea_as_role(bytea, uuid) RETURNS bytea
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].legacy.content_as_role(*args)
$$;
COMMENT ON FUNCTION envelope_internal.legacy_bytea_as_role(bytea, uuid) IS
    'used under row-level security and by convert: what legacy_bytea gives, by the current role''s right to the field; its arguments are the value and the field';

CREATE FUNCTION envelope_internal.legacy_opens(text, uuid) RETURNS boolean
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].legacy.opens(*args)
$$;
COMMENT ON FUNCTION envelope_internal.legacy_opens(text, uuid) IS
    'used by convert: whether a value that other software encrypted gives a value of its column; its arguments are the value and the field';

CREATE FUNCTION envelope_internal.legacy_opens(bytea, uuid) RETURNS boolean
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].legacy.opens(*args)
$$;
COMMENT ON FUNCTION envelope_internal.legacy_opens(bytea, uuid) IS
    'used by convert: whether a value that other software encrypted gives a value of its column; its arguments are the value and the field';

CREATE FUNCTION envelope_internal.adopted_text(value text, seal bytea) RETURNS text
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].legacy.adopted_text(value, seal)
$$;
COMMENT ON FUNCTION envelope_internal.adopted_text IS
    'used by triggers of columns that are being adopted: a written text, opened if an application has encrypted it';

CREATE FUNCTION envelope_internal.adopted_bytea(value bytea, seal bytea) RETURNS bytea
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].legacy.adopted(value, seal)
$$;
COMMENT ON FUNCTION envelope_internal.adopted_bytea IS
    'used by triggers of columns that are being adopted: a written bytea, opened if an application has encrypted it';

CREATE FUNCTION envelope_internal.adopted_draft(draft envelope.ciphertext, seal bytea) RETURNS envelope.ciphertext
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].adopted_draft(draft, seal)
$$;
COMMENT ON FUNCTION envelope_internal.adopted_draft(envelope.ciphertext, bytea) IS
    'used by guards of tables that are being adopted: the draft of a written value, opened if an application has encrypted it';

CREATE FUNCTION envelope_internal.adopted_draft(draft envelope.ciphertext, seal bytea, parts text) RETURNS envelope.ciphertext
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].adopted_draft(draft, seal, parts)
$$;
COMMENT ON FUNCTION envelope_internal.adopted_draft(envelope.ciphertext, bytea, text) IS
    'the same where other columns hold parts of the value: parts has them as hexadecimal texts with dots between them';

-- For DBAs.

CREATE FUNCTION envelope.import_legacy_key(
    name text, format text, secret bytea, kek text DEFAULT 'default', store text DEFAULT NULL) RETURNS void
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].adoption.import_key(name, format, secret, kek, store)
$$;
COMMENT ON FUNCTION envelope.import_legacy_key IS
    'takes over a key of other software, for envelope.adopt() only; better: pg-envelope key import NAME --format FORMAT --secret-file FILE, which no log shows';

CREATE FUNCTION envelope.inspect(rel regclass, "column" name, key text DEFAULT NULL, sample integer DEFAULT 1000,
    specification text DEFAULT NULL)
    RETURNS TABLE (format text, fraction double precision, opens double precision, detail text)
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].adoption.inspect(rel, column, key, sample, specification)
$$;
COMMENT ON FUNCTION envelope.inspect IS
    'what the values of a column look like, as fractions of a sample. With a legacy key: which formats open them; with a specification (a name, or JSON) too: how many of them it opens. It changes nothing and shows no value';

CREATE PROCEDURE envelope.adopt(
    rel regclass, "column" text, format text, key text, type text DEFAULT NULL,
    accept_unauthenticated boolean DEFAULT false, kek text DEFAULT 'default', store text DEFAULT NULL)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].adoption.adopt(rel, column, format, key, type, accept_unauthenticated, kek, store)
$$;
COMMENT ON PROCEDURE envelope.adopt IS
    'takes over a column that other software encrypted, or several of them: ["ssn", "phone"], or an object with options as protect() takes it. Indexes become indexes of search tokens. Its view reads the old values with the legacy key, and new values are envelopes at once. format: a name, or a specification as JSON. It commits. Not inside a transaction';

CREATE PROCEDURE envelope.convert(
    rel regclass, batch_size integer DEFAULT 1000, pause_ms integer DEFAULT 0, part integer DEFAULT 1,
    parts integer DEFAULT 1, max_lag_mb integer DEFAULT 64)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].adoption.convert(rel, batch_size, pause_ms, part, parts, max_lag_mb)
$$;
COMMENT ON PROCEDURE envelope.convert IS
    'makes envelopes of all old values of an adopted table, in transactions of about batch_size rows; called again it goes on. Values that do not open stay, and are listed in envelope.faults. With parts, several sessions can each take a part. It waits for standbys that have more than max_lag_mb to replay. Not inside a transaction';

CREATE PROCEDURE envelope.finish_adoption(
    rel regclass, batch_size integer DEFAULT 1000, pause_ms integer DEFAULT 0, destroy_key boolean DEFAULT true,
    drop_parts boolean DEFAULT false, max_lag_mb integer DEFAULT 64)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].adoption.finish(rel, batch_size, pause_ms, destroy_key, drop_parts, max_lag_mb)
$$;
COMMENT ON PROCEDURE envelope.finish_adoption IS
    'ends an adoption: converts what is left, lets PostgreSQL prove that no old value is left, and destroys the legacy key unless another column needs it. With drop_parts the columns go, too, that held IVs, tags and salts of the old values. Refused while values do not open. It waits for standbys that have more than max_lag_mb to replay. Not inside a transaction';

CREATE PROCEDURE envelope.export(rel regclass, "column" text, format text, key text DEFAULT NULL)
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].adoption.export(rel, column, format, key)
$$;
COMMENT ON PROCEDURE envelope.export IS
    'makes a plain table whose columns hold the ciphertext of other software, under an imported key: pgp_sym, fernet or node_json; or plain, which is unprotect. All protected columns must be named. It locks the table';

CREATE FUNCTION envelope_internal.exported_text(value text) RETURNS text
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].adoption.exported(value)
$$;
COMMENT ON FUNCTION envelope_internal.exported_text(text) IS
    'used by export alone: a text, encrypted to a text of the format that is being written';

CREATE FUNCTION envelope_internal.exported_text(value bytea) RETURNS text
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].adoption.exported(value)
$$;
COMMENT ON FUNCTION envelope_internal.exported_text(bytea) IS
    'used by export alone: a bytea, encrypted to a text of the format that is being written';

CREATE FUNCTION envelope_internal.exported_bytea(value text) RETURNS bytea
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].adoption.exported(value)
$$;
COMMENT ON FUNCTION envelope_internal.exported_bytea(text) IS
    'used by export alone: a text, encrypted to a bytea of the format that is being written';

CREATE FUNCTION envelope_internal.exported_bytea(value bytea) RETURNS bytea
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].adoption.exported(value)
$$;
COMMENT ON FUNCTION envelope_internal.exported_bytea(bytea) IS
    'used by export alone: a bytea, encrypted to a bytea of the format that is being written';

CREATE FUNCTION envelope_private.count_legacy(base oid, plain name) RETURNS bigint
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found bigint;
BEGIN
    EXECUTE format('SELECT count(%I) FROM ONLY %s', plain, base::regclass) INTO found;
    RETURN found;
END $$;
COMMENT ON FUNCTION envelope_private.count_legacy IS 'how many old values an adopted column still has; it reads the whole table';

CREATE VIEW envelope.adoption AS
    SELECT c.view::regclass AS relation, c.attname AS "column", a.format, k.name AS key,
        CASE WHEN EXISTS (SELECT FROM envelope_private.dek d WHERE d.key_uuid = a.legacy_key AND d.state <> 'destroyed')
            THEN 'usable' ELSE 'destroyed' END AS key_state,
        a.accepts_unauthenticated,
        CASE WHEN t.rollout = 'adopt' THEN envelope_private.count_legacy(c.base, c.plain_column) ELSE 0 END AS "left",
        (SELECT count(*) FROM envelope_private.fault f WHERE f.field_uuid = c.field_uuid AND f.found_by = 'adopt')
            AS refused,
        p.state, p.rows_per_second, a.began_at
    FROM envelope_private.adoption a
    JOIN envelope_private.protected_column c USING (field_uuid)
    JOIN envelope_private.protected_table t ON t.key_uuid = c.key_uuid
    LEFT JOIN envelope_private.key k ON k.key_uuid = a.legacy_key
    LEFT JOIN LATERAL (
        SELECT CASE WHEN bool_or(j.state = 'running') THEN 'running' ELSE min(j.state) END AS state,
            sum(j.rows_per_second) AS rows_per_second
        FROM envelope.progress j WHERE j.relation = c.view::regclass AND j.what = 'adopt') p ON true
    ORDER BY t.base, c.attnum;
COMMENT ON VIEW envelope.adoption IS
    'one row per column that is being adopted: how many old values are left, how many of them did not open at the last convert, the pace, and the state of the legacy key';
