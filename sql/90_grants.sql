-- Grants of functions. By default nobody may call one. Generated views and triggers call some for their users, and each
-- of these checks a right of their own: a capability, a privilege on a column, or the grant of a named key.

-- Default privileges (ALTER DEFAULT PRIVILEGES) may have given to some role what this script has just made, and PUBLIC
-- may execute any new function: all of it is taken back, so that a right exists only where this extension grants it.
DO $$
DECLARE
    statement text;
BEGIN
    FOR statement IN
        SELECT format('REVOKE %s ON %s FROM %s CASCADE', a.privilege_type, o.name,
            CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)
        FROM (
            SELECT oid AS schema, nspowner AS owner, nspacl AS acl, 'SCHEMA ' || quote_ident(nspname) AS name
                FROM pg_namespace
            UNION ALL
            SELECT relnamespace, relowner, relacl,
                    CASE relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || oid::regclass
                FROM pg_class WHERE relkind IN ('r', 'v', 'S')
            UNION ALL
            SELECT pronamespace, proowner, coalesce(proacl, acldefault('f', proowner)), 'ROUTINE ' || oid::regprocedure
                FROM pg_proc
            UNION ALL
            -- A role with USAGE on envelope.plaintext could make casts. Domains and composite types are for all to use.
            SELECT typnamespace, typowner, coalesce(typacl, acldefault('T', typowner)), 'TYPE ' || oid::regtype
                FROM pg_type WHERE typtype = 'b' AND typcategory <> 'A'
        ) AS o
        CROSS JOIN aclexplode(o.acl) AS a
        JOIN pg_depend AS d ON d.classid = 'pg_namespace'::regclass AND d.objid = o.schema AND d.deptype = 'e'
        JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'pg_envelope'
        WHERE a.grantee <> o.owner
    LOOP
        EXECUTE statement;
    END LOOP;
END $$;

GRANT USAGE ON SCHEMA envelope, envelope_internal, envelope_pgcrypto, envelope_compare TO PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA envelope_pgcrypto TO PUBLIC;
-- A base table has columns of this type, and its owner alters and restores them. Nothing is read by a cast from it.
GRANT USAGE ON TYPE envelope.input TO PUBLIC;
-- PostgreSQL calls them for what is searched for, or goes into an upsert relation, with the rights of who asks. They make
-- no cast: only USAGE on a type does.
GRANT EXECUTE ON FUNCTION
    envelope_private.plaintext_in(cstring), envelope_private.plaintext_out(envelope.plaintext),
    envelope_private.input_in(cstring), envelope_private.input_out(envelope.input),
    envelope_private.input_of_float8(double precision), envelope_private.input_of_float4(real),
    envelope_private.input_of_bool(boolean), envelope_private.input_of_bpchar(character),
    envelope_private.input_of_inet(inet)
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION
    envelope_internal.bootstrap(), envelope_internal.run_step(name), envelope_internal.revocation(),
    envelope_internal.names_protected(text), envelope_internal.changes_tables(), envelope_internal.begin_command(text, text),
    envelope.begin_ddl(regclass), envelope.end_ddl(),
    envelope_internal.canonical(anyelement), envelope_internal.array_of(envelope.plaintext, anyarray),
    envelope_internal.value_of(envelope.plaintext, anyarray),
    envelope_internal.decrypt_text(envelope.ciphertext, bytea, text), envelope_internal.decrypt_bytea(envelope.ciphertext, bytea, text),
    envelope_internal.read_id(),
    envelope_internal.decrypt_text_audited(envelope.ciphertext, bytea, text),
    envelope_internal.decrypt_bytea_audited(envelope.ciphertext, bytea, text),
    envelope_internal.mask_of(uuid, name), envelope_internal.sees_mask(uuid),
    envelope_internal.decrypt_text_masked(envelope.ciphertext, bytea, text),
    envelope_internal.decrypt_bytea_masked(envelope.ciphertext, bytea, text),
    envelope_internal.shown_as(envelope.ciphertext, bytea, text, uuid),
    envelope_internal.encrypt_text(text, bytea, text, text), envelope_internal.encrypt_bytea(bytea, bytea, text, text),
    envelope_internal.reseal(envelope.ciphertext, bytea, text, text), envelope.is_stale(envelope.ciphertext),
    envelope_internal.clear_text(envelope.ciphertext), envelope_internal.clear_bytea(envelope.ciphertext),
    envelope_internal.is_draft(envelope.ciphertext), envelope_internal.draft_text(text), envelope_internal.draft_bytea(bytea), envelope_internal.seal_draft(envelope.ciphertext, bytea, text, text),
    envelope_internal.opens(envelope.ciphertext, bytea, text), envelope_internal.fits(envelope.ciphertext, bytea, text), envelope_internal.rebind(envelope.ciphertext, bytea, text, text, text), envelope_internal.reading(oid, text), envelope_internal.unreadable(oid),
    envelope_internal.note_update(oid, text), envelope_internal.mend_begins(), envelope_internal.mend_ends(), envelope_internal.erased_pass(), envelope_internal.insert_begins(), envelope_internal.inserts_softly(oid), envelope_internal.mark(envelope.ciphertext, text), envelope_internal.marked(text, text), envelope_internal.is_retired(envelope.ciphertext),
    envelope_internal.acts_on_itself(regclass), envelope_internal.same_key(anyenum, anyenum),
    envelope_internal.same_key(anyarray, anyarray), envelope_internal.same_key(anyrange, anyrange),
    envelope_internal.same_key(anymultirange, anymultirange), envelope_internal.same_key(record, record),
    envelope.prefetch(regclass, text[]), envelope.relations(),
    envelope_internal.client_field(regclass, name), envelope_internal.client_named(text), envelope_internal.client_secret(text),
    envelope_internal.client_secrets(text), envelope_internal.client_search(regclass, name),
    envelope_search.token_is(envelope_search.token, bytea), envelope_internal.token_length(envelope_search.token),
    envelope_internal.given_token(envelope_search.token, uuid),
    envelope_internal.client_key(uuid, bigint, text), envelope_internal.client_messages(uuid, bigint, integer),
    envelope_internal.search_token(text, bytea, text), envelope_internal.search_token_as_role(text, uuid, text),
    envelope_internal.search_grams(text, bytea, text), envelope_internal.search_grams_as_role(text, uuid, text),
    envelope_internal.fault_as_role(envelope.ciphertext, uuid, text),
    envelope_internal.has_value(envelope.ciphertext, anyelement, text, text), envelope_internal.no_value(bytea), envelope_internal.no_value(uuid),
    envelope_internal.readable(envelope.ciphertext), envelope_internal.stays(envelope.ciphertext, envelope.ciphertext), envelope_internal.fault_carefully(envelope.ciphertext, uuid, text, text),
    envelope_internal.decrypt_text_as_role(envelope.ciphertext, uuid, text),
    envelope_internal.decrypt_bytea_as_role(envelope.ciphertext, uuid, text),
    envelope_internal.encrypt_text_as_role(text, uuid, text, text), envelope_internal.encrypt_bytea_as_role(bytea, uuid, text, text),
    envelope_internal.legacy_text(text, bytea), envelope_internal.legacy_text(bytea, bytea),
    envelope_internal.legacy_bytea(text, bytea), envelope_internal.legacy_bytea(bytea, bytea),
    envelope_internal.legacy_text_as_role(text, uuid), envelope_internal.legacy_text_as_role(bytea, uuid),
    envelope_internal.legacy_bytea_as_role(text, uuid), envelope_internal.legacy_bytea_as_role(bytea, uuid),
    envelope_internal.legacy_opens(text, uuid), envelope_internal.legacy_opens(bytea, uuid),
    envelope_internal.adopted_text(text, bytea), envelope_internal.adopted_bytea(bytea, bytea),
    envelope_internal.adopted_draft(envelope.ciphertext, bytea),
    envelope_internal.adopted_draft(envelope.ciphertext, bytea, text),
    envelope_internal.exported_text(text), envelope_internal.exported_text(bytea),
    envelope_internal.exported_bytea(text), envelope_internal.exported_bytea(bytea),
    envelope.encrypt(text, text, text), envelope.encrypt(bytea, text, text),
    envelope.decrypt(envelope.ciphertext, text), envelope.decrypt_bytea(envelope.ciphertext, text)
    TO PUBLIC;

GRANT EXECUTE ON PROCEDURE envelope.truncate(regclass, boolean, boolean), envelope.refresh(regclass) TO PUBLIC;

-- Each shows a role the tables that it owns, or the keys that it may use.
GRANT SELECT ON envelope.faults, envelope.verifications, envelope_internal.granted_key TO PUBLIC;

-- pgcrypto's names (sql/70_pgcrypto.sql) and passwords.
GRANT EXECUTE ON FUNCTION
    envelope.secret(text, integer),
    envelope_internal.secret_bytea(text, integer), envelope_internal.secret_bytea(envelope.secret_ref),
    envelope_internal.secret_text(text, integer), envelope_internal.secret_text(envelope.secret_ref),
    envelope_internal.named_only(text, boolean), envelope_internal.named_only(bytea, boolean),
    envelope.hash_password(text, text), envelope.verify_password(text, text), envelope.password_needs_rehash(text),
    envelope.password_limits()
    TO PUBLIC;
-- Every caller of a guarded function calls these. Nobody else can reach them: the schema gives no USAGE.
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA envelope_pgcrypto_direct TO PUBLIC;

-- These are for pg_dump by the database's owner. A dump opens nothing by itself: it holds wrapped DEKs, salts and
-- names.
GRANT USAGE ON SCHEMA envelope_private TO pg_database_owner;
SELECT envelope_private.allow_dump(r.dumped)
    FROM pg_catalog.pg_extension e, pg_catalog.unnest(e.extconfig) r (dumped) WHERE e.extname = 'pg_envelope';
