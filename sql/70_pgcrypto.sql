-- pgcrypto under another schema name, and keys by name in place of keys in SQL text: docs/pgcrypto.md. The functions
-- are the server's own C library, declared directly. There is no wrapper, so even the errors are the same.

CREATE SCHEMA envelope_pgcrypto;
COMMENT ON SCHEMA envelope_pgcrypto IS 'pg_envelope: pgcrypto''s functions, whose keys may be envelope.secret(NAME)';

CREATE SCHEMA envelope_pgcrypto_direct;
COMMENT ON SCHEMA envelope_pgcrypto_direct IS
    'pg_envelope: functions behind envelope_pgcrypto where literal keys are forbidden; no role has USAGE';

-- One row per function. parts: one letter per argument; k: a key or passphrase, p: a passphrase that may be empty.
CREATE VIEW envelope_private.pgcrypto_function (name, arguments, result, symbol, traits, parts, since) AS
    SELECT *, CASE column1 WHEN 'fips_mode' THEN 180000 ELSE 150000 END FROM (VALUES
    ('digest', 'text, text', 'bytea', 'pg_digest', 'IMMUTABLE STRICT', ''),
    ('digest', 'bytea, text', 'bytea', 'pg_digest', 'IMMUTABLE STRICT', ''),
    ('hmac', 'text, text, text', 'bytea', 'pg_hmac', 'IMMUTABLE STRICT', '-k-'),
    ('hmac', 'bytea, bytea, text', 'bytea', 'pg_hmac', 'IMMUTABLE STRICT', '-k-'),
    ('crypt', 'text, text', 'text', 'pg_crypt', 'IMMUTABLE STRICT', ''),
    ('gen_salt', 'text', 'text', 'pg_gen_salt', 'VOLATILE STRICT', ''),
    ('gen_salt', 'text, integer', 'text', 'pg_gen_salt_rounds', 'VOLATILE STRICT', ''),
    ('encrypt', 'bytea, bytea, text', 'bytea', 'pg_encrypt', 'IMMUTABLE STRICT', '-k-'),
    ('decrypt', 'bytea, bytea, text', 'bytea', 'pg_decrypt', 'IMMUTABLE STRICT', '-k-'),
    ('encrypt_iv', 'bytea, bytea, bytea, text', 'bytea', 'pg_encrypt_iv', 'IMMUTABLE STRICT', '-k--'),
    ('decrypt_iv', 'bytea, bytea, bytea, text', 'bytea', 'pg_decrypt_iv', 'IMMUTABLE STRICT', '-k--'),
    ('gen_random_bytes', 'integer', 'bytea', 'pg_random_bytes', 'VOLATILE STRICT', ''),
    ('gen_random_uuid', '', 'uuid', 'pg_random_uuid', 'VOLATILE', ''),
    ('pgp_sym_encrypt', 'text, text', 'bytea', 'pgp_sym_encrypt_text', 'VOLATILE STRICT', '-k'),
    ('pgp_sym_encrypt', 'text, text, text', 'bytea', 'pgp_sym_encrypt_text', 'VOLATILE STRICT', '-k-'),
    ('pgp_sym_encrypt_bytea', 'bytea, text', 'bytea', 'pgp_sym_encrypt_bytea', 'VOLATILE STRICT', '-k'),
    ('pgp_sym_encrypt_bytea', 'bytea, text, text', 'bytea', 'pgp_sym_encrypt_bytea', 'VOLATILE STRICT', '-k-'),
    ('pgp_sym_decrypt', 'bytea, text', 'text', 'pgp_sym_decrypt_text', 'IMMUTABLE STRICT', '-k'),
    ('pgp_sym_decrypt', 'bytea, text, text', 'text', 'pgp_sym_decrypt_text', 'IMMUTABLE STRICT', '-k-'),
    ('pgp_sym_decrypt_bytea', 'bytea, text', 'bytea', 'pgp_sym_decrypt_bytea', 'IMMUTABLE STRICT', '-k'),
    ('pgp_sym_decrypt_bytea', 'bytea, text, text', 'bytea', 'pgp_sym_decrypt_bytea', 'IMMUTABLE STRICT', '-k-'),
    ('pgp_pub_encrypt', 'text, bytea', 'bytea', 'pgp_pub_encrypt_text', 'VOLATILE STRICT', ''),
    ('pgp_pub_encrypt', 'text, bytea, text', 'bytea', 'pgp_pub_encrypt_text', 'VOLATILE STRICT', ''),
    ('pgp_pub_encrypt_bytea', 'bytea, bytea', 'bytea', 'pgp_pub_encrypt_bytea', 'VOLATILE STRICT', ''),
    ('pgp_pub_encrypt_bytea', 'bytea, bytea, text', 'bytea', 'pgp_pub_encrypt_bytea', 'VOLATILE STRICT', ''),
    ('pgp_pub_decrypt', 'bytea, bytea', 'text', 'pgp_pub_decrypt_text', 'IMMUTABLE STRICT', '-k'),
    ('pgp_pub_decrypt', 'bytea, bytea, text', 'text', 'pgp_pub_decrypt_text', 'IMMUTABLE STRICT', '-kp'),
    ('pgp_pub_decrypt', 'bytea, bytea, text, text', 'text', 'pgp_pub_decrypt_text', 'IMMUTABLE STRICT', '-kp-'),
    ('pgp_pub_decrypt_bytea', 'bytea, bytea', 'bytea', 'pgp_pub_decrypt_bytea', 'IMMUTABLE STRICT', '-k'),
    ('pgp_pub_decrypt_bytea', 'bytea, bytea, text', 'bytea', 'pgp_pub_decrypt_bytea', 'IMMUTABLE STRICT', '-kp'),
    ('pgp_pub_decrypt_bytea', 'bytea, bytea, text, text', 'bytea', 'pgp_pub_decrypt_bytea', 'IMMUTABLE STRICT', '-kp-'),
    ('pgp_key_id', 'bytea', 'text', 'pgp_key_id_w', 'IMMUTABLE STRICT', ''),
    ('armor', 'bytea', 'text', 'pg_armor', 'IMMUTABLE STRICT', ''),
    ('armor', 'bytea, text[], text[]', 'text', 'pg_armor', 'IMMUTABLE STRICT', ''),
    ('dearmor', 'text', 'bytea', 'pg_dearmor', 'IMMUTABLE STRICT', ''),
    ('pgp_armor_headers', 'text, OUT key text, OUT value text', 'SETOF record', 'pgp_armor_headers',
        'IMMUTABLE STRICT', ''),
    ('fips_mode', '', 'boolean', 'pg_check_fipsmode', 'VOLATILE STRICT', '')) AS f;
COMMENT ON VIEW envelope_private.pgcrypto_function IS
    'pgcrypto''s functions, and the server version that first has each';

-- Secrets by name. The casts are STABLE, so they are never folded into a plan, and EXPLAIN shows the name only. They
-- are one SQL expression, which the planner inlines. PL/Python then gets two scalars, which is faster than a composite
-- value.

CREATE FUNCTION envelope.secret(name text, version integer DEFAULT NULL) RETURNS envelope.secret_ref
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT ROW(name, version)::envelope.secret_ref;
END;
COMMENT ON FUNCTION envelope.secret IS
    'names a secret where a function takes a key or password: pgp_sym_encrypt(v, envelope.secret(''pii''))';

CREATE FUNCTION envelope_internal.secret_bytea(name text, version integer) RETURNS bytea
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].secret_bytea(name, version)
$$;
COMMENT ON FUNCTION envelope_internal.secret_bytea(text, integer) IS
    'used by the cast of envelope.secret(): the secret''s bytes, if its key is granted to the current role';

CREATE FUNCTION envelope_internal.secret_text(name text, version integer) RETURNS text
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].secret_text(name, version)
$$;
COMMENT ON FUNCTION envelope_internal.secret_text(text, integer) IS
    'used by the cast of envelope.secret(): the secret as text, if its key is granted to the current role';

CREATE FUNCTION envelope_internal.secret_bytea(key envelope.secret_ref) RETURNS bytea
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT envelope_internal.secret_bytea((key).name, (key).version);
END;
COMMENT ON FUNCTION envelope_internal.secret_bytea(envelope.secret_ref) IS 'the cast of envelope.secret() to bytea';

CREATE FUNCTION envelope_internal.secret_text(key envelope.secret_ref) RETURNS text
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT envelope_internal.secret_text((key).name, (key).version);
END;
COMMENT ON FUNCTION envelope_internal.secret_text(envelope.secret_ref) IS 'the cast of envelope.secret() to text';

CREATE CAST (envelope.secret_ref AS bytea) WITH FUNCTION envelope_internal.secret_bytea(envelope.secret_ref) AS IMPLICIT;
CREATE CAST (envelope.secret_ref AS text) WITH FUNCTION envelope_internal.secret_text(envelope.secret_ref) AS IMPLICIT;

-- Making secrets, for DBAs. SECURITY DEFINER, so that EXECUTE alone can be granted to a role that administers keys.

CREATE FUNCTION envelope.create_secret(name text, kek text DEFAULT 'default', store text DEFAULT NULL) RETURNS integer
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].secret_admin.create(name, kek, store)
$$;
COMMENT ON FUNCTION envelope.create_secret IS
    'makes a random secret of 32 base64url characters (192 bits) that nobody sees; returns its version, 1';

CREATE FUNCTION envelope.import_secret(
    name text, secret text, kek text DEFAULT 'default', store text DEFAULT NULL) RETURNS integer
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].secret_admin.import_text(name, secret, kek, store)
$$;
COMMENT ON FUNCTION envelope.import_secret(text, text, text, text) IS
    'takes over a passphrase in use; better: pg-envelope secret set NAME --secret-file FILE, which no log shows';

CREATE FUNCTION envelope.import_secret(
    name text, secret bytea, kek text DEFAULT 'default', store text DEFAULT NULL) RETURNS integer
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].secret_admin.import_bytes(name, secret, kek, store)
$$;
COMMENT ON FUNCTION envelope.import_secret(text, bytea, text, text) IS
    'takes over a raw key or an OpenPGP secret key that is in use; better: pg-envelope secret set --secret-file FILE';

CREATE FUNCTION envelope.replace_secret(name text) RETURNS integer
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].secret_admin.replace(name)
$$;
COMMENT ON FUNCTION envelope.replace_secret(text) IS
    'makes a new random version of a secret; returns its number. envelope.secret(name, version) still names the older ones';

CREATE FUNCTION envelope.replace_secret(name text, secret text) RETURNS integer
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].secret_admin.replace_text(name, secret)
$$;
COMMENT ON FUNCTION envelope.replace_secret(text, text) IS 'makes a given passphrase the new version of a secret; returns its number';

CREATE FUNCTION envelope.replace_secret(name text, secret bytea) RETURNS integer
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].secret_admin.replace_bytes(name, secret)
$$;
COMMENT ON FUNCTION envelope.replace_secret(text, bytea) IS 'makes a given raw key the new version of a secret; returns its number';

CREATE FUNCTION envelope.reseal_secret(name text) RETURNS integer
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].secret_admin.reseal(name)
$$;
COMMENT ON FUNCTION envelope.reseal_secret IS
    'seals all versions of a secret with the newest version of its key, after envelope.rotate_key(); returns how many it moved';

CREATE VIEW envelope.secrets AS
    SELECT k.name, s.version, s.created_at FROM envelope_private.secret s JOIN envelope_private.key k USING (key_uuid)
    ORDER BY k.name, s.version;
COMMENT ON VIEW envelope.secrets IS 'one row per version of a secret, without the secret itself';

-- Literal keys, allowed or forbidden. The guarded form is one SQL expression as well, so that the planner puts it in
-- place: pgcrypto's errors stay as they are. STABLE, because the result depends on the secrets that this session got by
-- name.

CREATE FUNCTION envelope_internal.named_only(value text, may_be_empty boolean) RETURNS text
    LANGUAGE plpython3u STABLE STRICT AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].named_only_text(value, may_be_empty)
$$;
COMMENT ON FUNCTION envelope_internal.named_only(text, boolean) IS
    'used where literal keys are forbidden: the value, if this transaction got it from envelope.secret(), or else an error';

CREATE FUNCTION envelope_internal.named_only(value bytea, may_be_empty boolean) RETURNS bytea
    LANGUAGE plpython3u STABLE STRICT AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].named_only_bytea(value, may_be_empty)
$$;
COMMENT ON FUNCTION envelope_internal.named_only(bytea, boolean) IS
    'used where literal keys are forbidden: the value, if this transaction got it from envelope.secret(), or else an error';

CREATE FUNCTION envelope_private.declare_direct(f envelope_private.pgcrypto_function, target text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('CREATE OR REPLACE FUNCTION %s (%s) RETURNS %s LANGUAGE C %s PARALLEL SAFE AS %L, %L',
        target, f.arguments, f.result, f.traits, '$libdir/pgcrypto', f.symbol);
    EXECUTE format('COMMENT ON FUNCTION %s (%s) IS %L',
        target, f.arguments, format('pgcrypto''s %s(), itself', f.name));
END $$;
COMMENT ON FUNCTION envelope_private.declare_direct IS 'declares a function of the server''s pgcrypto library';

CREATE FUNCTION envelope_private.declare_guarded(f envelope_private.pgcrypto_function, direct text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    target text := format('envelope_pgcrypto.%I', f.name);
    arguments text;
BEGIN
    SELECT string_agg(
            CASE part WHEN '-' THEN format('$%s', i) ELSE format('envelope_internal.named_only($%s, %L)', i, part = 'p') END,
            ', ' ORDER BY i)
        INTO arguments FROM string_to_table(f.parts, NULL) WITH ORDINALITY AS t (part, i);
    EXECUTE format('CREATE OR REPLACE FUNCTION %s (%s) RETURNS %s LANGUAGE sql %s BEGIN ATOMIC SELECT %s(%s); END',
        target, f.arguments, f.result, replace(f.traits, 'IMMUTABLE', 'STABLE'), direct, arguments);
    EXECUTE format('COMMENT ON FUNCTION %s (%s) IS %L',
        target, f.arguments, format('pgcrypto''s %s(), for keys by name only', f.name));
END $$;
COMMENT ON FUNCTION envelope_private.declare_guarded IS
    'declares a function of envelope_pgcrypto that refuses literal keys';

CREATE FUNCTION envelope_private.declare_pgcrypto() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    f envelope_private.pgcrypto_function;
    direct text;
    guarded boolean;
    forbidden boolean := EXISTS (SELECT FROM envelope_private.pgcrypto_setting WHERE literal_keys_forbidden);
BEGIN
    FOR f IN
        SELECT * FROM envelope_private.pgcrypto_function WHERE current_setting('server_version_num')::integer >= since
    LOOP
        guarded := forbidden AND f.parts <> '';
        direct := format('envelope_pgcrypto_direct.%I', f.name);
        BEGIN
            IF f.parts <> '' THEN
                PERFORM envelope_private.declare_direct(f, direct);
            END IF;
            IF NOT guarded THEN
                PERFORM envelope_private.declare_direct(f, format('envelope_pgcrypto.%I', f.name));
            END IF;
        EXCEPTION
            WHEN undefined_function THEN
                RAISE NOTICE 'this server''s pgcrypto has no %(%)', f.name, f.arguments;
                CONTINUE;
            WHEN undefined_file THEN
                RAISE NOTICE 'this server has no pgcrypto library; envelope_pgcrypto stays empty'
                    USING HINT = 'It comes with PostgreSQL''s contrib modules.';
                RETURN;
        END;
        IF guarded THEN
            PERFORM envelope_private.declare_guarded(f, direct);
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION envelope_private.declare_pgcrypto IS
    'declares the functions of the server''s pgcrypto library, with literal keys allowed or forbidden by the last envelope.forbid_literal_keys()';

CREATE FUNCTION envelope_private.pgcrypto_setting_changed() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$ BEGIN PERFORM envelope_private.declare_pgcrypto(); RETURN NULL; END $$;
COMMENT ON FUNCTION envelope_private.pgcrypto_setting_changed IS
    'brings envelope_pgcrypto in line with the setting, also while a dump is restored';

CREATE TRIGGER apply AFTER INSERT OR UPDATE ON envelope_private.pgcrypto_setting
    FOR EACH ROW EXECUTE FUNCTION envelope_private.pgcrypto_setting_changed();

CREATE FUNCTION envelope.forbid_literal_keys(forbidden boolean DEFAULT true) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO envelope_private.pgcrypto_setting (literal_keys_forbidden) VALUES (forbidden)
        ON CONFLICT (only_row) DO UPDATE SET literal_keys_forbidden = excluded.literal_keys_forbidden;
END;
COMMENT ON FUNCTION envelope.forbid_literal_keys IS
    'true: in this database, envelope_pgcrypto takes keys from envelope.secret() only; false: any key again';

SELECT envelope_private.declare_pgcrypto();
