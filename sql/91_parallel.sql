-- Queries of protected tables in parallel workers. Every function that decrypts runs a query when it misses a key, and
-- PL/Python runs each query in a subtransaction. PostgreSQL allows subtransactions in parallel mode since version 17. On
-- older servers the functions stay PARALLEL UNSAFE, and queries of a protected table run in one process.

CREATE FUNCTION envelope_private.let_workers_decrypt() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    in_workers CONSTANT name[] := '{decrypt_text,decrypt_bytea}';
    -- These keep rights, rules, events or legacy keys in memory of the session. So only the session itself runs them.
    -- The rest of the query can run in workers.
    in_session CONSTANT name[] := '{read_id,decrypt_text_audited,decrypt_bytea_audited,decrypt_text_as_role,
        decrypt_bytea_as_role,mask_of,decrypt_text_masked,decrypt_bytea_masked,search_token,search_token_as_role,search_grams,search_grams_as_role,
        legacy_text,legacy_bytea,legacy_text_as_role,legacy_bytea_as_role}';
    of_users CONSTANT name[] := '{decrypt,decrypt_bytea}';
    found record;
BEGIN
    IF current_setting('server_version_num')::integer < 170000 THEN
        RETURN;
    END IF;
    FOR found IN
        SELECT p.oid::regprocedure AS function, n.nspname = 'envelope_internal' AND proname = ANY (in_workers) AS is_safe
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = 'envelope_internal' AND proname = ANY (in_workers || in_session)
            OR n.nspname = 'envelope' AND proname = ANY (of_users)
    LOOP
        EXECUTE format('ALTER FUNCTION %s PARALLEL %s', found.function,
            CASE WHEN found.is_safe THEN 'SAFE' ELSE 'RESTRICTED' END);
    END LOOP;
END $$;
COMMENT ON FUNCTION envelope_private.let_workers_decrypt IS
    'lets parallel workers decrypt, where the server allows it. CREATE EXTENSION calls it; call it after pg_upgrade from a server older than 17';

SELECT envelope_private.let_workers_decrypt();
