-- Queries of protected tables in parallel workers. Every function that decrypts runs a query when it misses a key, and
-- PL/Python runs each query in a subtransaction. PostgreSQL allows subtransactions in parallel mode since version 17. On
-- older servers the functions stay PARALLEL UNSAFE, and queries of a protected table run in one process.

CREATE FUNCTION envelope_private.let_workers_decrypt() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('server_version_num')::integer < 170000 THEN
        RETURN;
    END IF;
    ALTER FUNCTION envelope_internal.decrypt_text(envelope.ciphertext, bytea, text) PARALLEL SAFE;
    ALTER FUNCTION envelope_internal.decrypt_bytea(envelope.ciphertext, bytea, text) PARALLEL SAFE;
    -- These count reads, or ask for the right of a role, in memory of the session. So only the session itself runs
    -- them. The rest of the query can run in workers.
    ALTER FUNCTION envelope_internal.opened(bytea, uuid) PARALLEL RESTRICTED;
    ALTER FUNCTION envelope_internal.decrypt_text_audited(envelope.ciphertext, bytea, text) PARALLEL RESTRICTED;
    ALTER FUNCTION envelope_internal.decrypt_bytea_audited(envelope.ciphertext, bytea, text) PARALLEL RESTRICTED;
    ALTER FUNCTION envelope_internal.decrypt_text_as_role(envelope.ciphertext, uuid, text) PARALLEL RESTRICTED;
    ALTER FUNCTION envelope_internal.decrypt_bytea_as_role(envelope.ciphertext, uuid, text) PARALLEL RESTRICTED;
    ALTER FUNCTION envelope_internal.search_token(text, bytea, text) PARALLEL RESTRICTED;
    ALTER FUNCTION envelope_internal.search_token_as_role(text, uuid, text) PARALLEL RESTRICTED;
    ALTER FUNCTION envelope.decrypt(envelope.ciphertext, text) PARALLEL RESTRICTED;
    ALTER FUNCTION envelope.decrypt_bytea(envelope.ciphertext, text) PARALLEL RESTRICTED;
END $$;
COMMENT ON FUNCTION envelope_private.let_workers_decrypt IS
    'lets parallel workers decrypt, where the server allows it. CREATE EXTENSION calls it; call it after pg_upgrade from a server older than 17';

SELECT envelope_private.let_workers_decrypt();
