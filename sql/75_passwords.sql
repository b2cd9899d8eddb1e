-- Passwords: pgcrypto hashes them with bcrypt, or the package with Argon2id. They are never kept, and never shown. The
-- functions are PL/pgSQL, whose plain expressions run no statement: so a password is no parameter, and in no log. Nor
-- are hashes: auto_explain prints the parameters of an SQL function's statements, not those of PL/pgSQL's. A plan made
-- for one call would hold them, too. SECURITY DEFINER, because the functions behind are private. Nothing here depends
-- on the caller.

CREATE FUNCTION envelope_private.password_kind(hash text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE
        -- This text is longer than any hash. To read it would take longer than to verify a hash.
        WHEN octet_length(hash) > 1000 THEN NULL
        WHEN hash ~ E'^\\$2[abxy]\\$(0[4-9]|[12][0-9]|3[01])\\$[./A-Za-z0-9]{53}$' THEN 'bcrypt'
        WHEN hash ~ E'^\\$argon2id\\$v=19\\$m=[0-9]{1,10},t=[0-9]{1,10},p=[0-9]{1,8}\\$[+/A-Za-z0-9]+\\$[+/A-Za-z0-9]+$'
            THEN 'argon2id'
        WHEN hash ~ E'^\\$1\\$[^$]{0,8}\\$[./A-Za-z0-9]{22}$' THEN 'md5'
        WHEN hash ~ E'^\\$5\\$(rounds=[0-9]+\\$)?[^$]{0,16}\\$[./A-Za-z0-9]{43}$' THEN 'sha256crypt'
        WHEN hash ~ E'^\\$6\\$(rounds=[0-9]+\\$)?[^$]{0,16}\\$[./A-Za-z0-9]{86}$' THEN 'sha512crypt'
        WHEN hash ~ '^_(?![.]{4})[./A-Za-z0-9]{19}$' THEN 'xdes'
        WHEN hash ~ '^[./A-Za-z0-9]{13}$' THEN 'des'
    END;
END $$;
COMMENT ON FUNCTION envelope_private.password_kind IS 'the algorithm of a password hash; NULL for a text that is no hash';

-- A hash says how much work it takes to verify. A person who can write a hash must not be able to stall a session, or
-- exhaust the server.
CREATE FUNCTION envelope.password_limits() RETURNS TABLE (algorithm text, cost text, most numeric)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    VALUES ('bcrypt', 'rounds, as a power of 2', 15),
        ('argon2id', 'memory in KiB', 262144),
        ('argon2id', 'passes', 64),
        ('argon2id', 'lanes', 64),
        ('argon2id', 'memory in KiB x passes', 1048576),
        ('sha256crypt', 'rounds', 1000000),
        ('sha512crypt', 'rounds', 1000000),
        ('xdes', 'rounds', 1048576);
END;
COMMENT ON FUNCTION envelope.password_limits IS
    'the most work that verify_password() does for a hash, by algorithm; a hash that needs more is an error';

CREATE FUNCTION envelope_private.password_costs(kind text, hash text) RETURNS TABLE (cost text, asked numeric)
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT 'rounds, as a power of 2', substr(hash, 5, 2)::numeric WHERE kind = 'bcrypt'
    UNION ALL
    SELECT c.cost, c.asked FROM regexp_match(hash, 'm=([0-9]+),t=([0-9]+),p=([0-9]+)') AS p,
        LATERAL (VALUES ('memory in KiB', p[1]::numeric), ('passes', p[2]::numeric), ('lanes', p[3]::numeric),
            ('memory in KiB x passes', p[1]::numeric * p[2]::numeric)) AS c (cost, asked)
        WHERE kind = 'argon2id'
    UNION ALL
    SELECT 'rounds', p[1]::numeric FROM regexp_match(hash, 'rounds=([0-9]+)') AS p WHERE kind LIKE 'sha%'
    UNION ALL
    SELECT 'rounds', sum((strpos('./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz',
            substr(hash, 2 + place, 1)) - 1) * 64 ^ place::numeric)
        FROM generate_series(0, 3) AS place WHERE kind = 'xdes' HAVING count(*) > 0;
END $$;
COMMENT ON FUNCTION envelope_private.password_costs IS 'the work of verifying a hash, in the words of password_limits()';

CREATE FUNCTION envelope_private.password_excess(kind text, hash text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN (SELECT format('%s: at most %s', l.cost, l.most)
        FROM envelope.password_limits() AS l JOIN envelope_private.password_costs(kind, hash) AS c USING (cost)
        WHERE l.algorithm = kind AND c.asked > l.most LIMIT 1);
END $$;
COMMENT ON FUNCTION envelope_private.password_excess IS 'the limit that a hash is above; NULL when verifying it is affordable';

CREATE FUNCTION envelope_private.argon2id(password text) RETURNS text
    LANGUAGE plpython3u STRICT SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].passwords.argon2id(password)
$$;
COMMENT ON FUNCTION envelope_private.argon2id IS 'hashes a password with Argon2id and a new salt, in PHC format';

CREATE FUNCTION envelope_private.is_argon2id(password text, hash text) RETURNS boolean
    LANGUAGE plpython3u STRICT SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].passwords.is_argon2id(password, hash)
$$;
COMMENT ON FUNCTION envelope_private.is_argon2id IS 'whether an Argon2id hash belongs to a password';

CREATE FUNCTION envelope_private.same(a text, b text) RETURNS boolean
    LANGUAGE plpython3u STRICT SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].passwords.same(a, b)
$$;
COMMENT ON FUNCTION envelope_private.same IS
    'whether two texts are the same, in a time that does not depend on where they differ';

CREATE FUNCTION envelope.hash_password(password text, algorithm text DEFAULT 'bcrypt') RETURNS text
    LANGUAGE plpgsql STRICT SECURITY DEFINER COST 1000000 SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF algorithm = 'argon2id' THEN
        RETURN envelope_private.argon2id(password);
    ELSIF algorithm <> 'bcrypt' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'unknown password hash algorithm',
            HINT = 'Algorithms: bcrypt, argon2id.';
    ELSIF octet_length(password) > 72 THEN
        RAISE EXCEPTION USING ERRCODE = 'string_data_right_truncation',
            MESSAGE = 'the password is longer than 72 bytes, and bcrypt reads no more',
            HINT = 'Use envelope.hash_password(password, ''argon2id''), which has no such limit.';
    END IF;
    RETURN envelope_pgcrypto.crypt(password, envelope_pgcrypto.gen_salt('bf', 12));
END $$;
COMMENT ON FUNCTION envelope.hash_password IS
    'makes a hash to store in place of a password: bcrypt with 2^12 rounds, or argon2id with 64 MiB, 3 passes, 4 lanes. '
    'SECURITY DEFINER: it calls private functions';

CREATE FUNCTION envelope.verify_password(password text, hash text) RETURNS boolean
    LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER COST 1000000 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kind text := envelope_private.password_kind(hash);
    excess text := envelope_private.password_excess(kind, hash);
BEGIN
    IF kind IS NULL THEN
        RETURN false;
    ELSIF excess IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('verifying this %s hash would cost too much', kind), DETAIL = excess,
            HINT = 'envelope.password_limits() shows the limits. Did your application make this hash, or did somebody plant it?';
    ELSIF kind = 'argon2id' THEN
        RETURN envelope_private.is_argon2id(password, hash);
    ELSIF kind = 'bcrypt' AND substr(hash, 3, 1) IN ('b', 'y') THEN
        -- One algorithm has these three names; pgcrypto knows it by the oldest.
        hash := overlay(hash PLACING 'a' FROM 3 FOR 1);
    ELSIF kind LIKE 'sha%' AND current_setting('server_version_num')::integer < 180000 THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
            MESSAGE = format('this server''s pgcrypto cannot verify %s hashes', kind), HINT = 'PostgreSQL 18''s can.';
    END IF;
    RETURN envelope_private.same(envelope_pgcrypto.crypt(password, hash), hash);
END $$;
COMMENT ON FUNCTION envelope.verify_password IS
    'tells whether a hash (bcrypt, argon2id, crypt()''s older ones) belongs to a password; false for a text that is no hash, an error '
    'above password_limits(). '
    'SECURITY DEFINER: it calls private functions';

CREATE FUNCTION envelope.password_needs_rehash(hash text) RETURNS boolean
    LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN CASE envelope_private.password_kind(hash)
        WHEN 'bcrypt' THEN substr(hash, 3, 1) = 'x' OR substr(hash, 5, 2)::integer < 12
        WHEN 'argon2id' THEN EXISTS (
            SELECT FROM regexp_match(hash, 'm=([0-9]+),t=([0-9]+),') AS p
            WHERE p[1]::bigint < 65536 OR p[2]::bigint < 3)
        ELSE true
    END;
END $$;
COMMENT ON FUNCTION envelope.password_needs_rehash IS
    'tells whether a hash is weaker than the hashes of hash_password(): then hash the password again at the next login. '
    'SECURITY DEFINER: it calls private functions';

CREATE PROCEDURE envelope.hash_passwords(rel regclass, "column" name, batch_size integer DEFAULT 100)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].passwords.hash_column(rel, column, batch_size)
$$;
COMMENT ON PROCEDURE envelope.hash_passwords IS
    'hashes a column of plaintext passwords in place, committing after about batch_size rows; not inside a transaction';
