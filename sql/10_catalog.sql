-- The key catalog and what is protected: FORMAT.md section 3. Made once; changed by upgrade scripts only.
-- No foreign keys between tables that are dumped: pg_restore --jobs loads an extension's tables in any order, each in a
-- transaction of its own. envelope.status() looks for rows without their parent instead.

CREATE TABLE envelope_private.installation (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    database_uuid uuid NOT NULL DEFAULT gen_random_uuid(),
    environment text,
    home text,
    home_name name,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE envelope_private.installation IS
    'how the KMS knows this database. The first key makes its one row, and a dump holds it';
COMMENT ON COLUMN envelope_private.installation.environment IS 'the environment of the broker that made the first key';
COMMENT ON COLUMN envelope_private.installation.home IS
    'the cluster, database and data directory that the keys belong to; in a copy these are still those of the original';
COMMENT ON COLUMN envelope_private.installation.home_name IS 'the database''s name there, for people';

CREATE TABLE envelope_private.key (
    key_uuid uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text UNIQUE,
    base regclass UNIQUE,
    view regclass UNIQUE,
    kek text NOT NULL,
    store text NOT NULL CHECK (store IN ('vault', 'catalog')),
    row_key name[] NOT NULL DEFAULT '{}',
    by_role boolean NOT NULL DEFAULT false,
    as_caller boolean NOT NULL DEFAULT false,
    mirrored text,
    checks jsonb NOT NULL DEFAULT '[]',
    scope text NOT NULL DEFAULT 'table' CHECK (scope IN ('table', 'tenant', 'subject')),
    scope_column name,
    scope_of uuid,
    erased text NOT NULL DEFAULT 'error' CHECK (erased IN ('error', 'null')),
    rollout text CHECK (rollout IN ('tokens', 'protect', 'unprotect', 'adopt')),
    residue oid[],
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK (name IS NULL OR base IS NULL),
    CHECK ((scope = 'table') = (scope_column IS NULL)),
    CHECK (scope_of IS NULL OR scope <> 'table')
);
COMMENT ON TABLE envelope_private.key IS
    'one key with all its versions: a named key, or the key of a protected table. A key without name and base belongs to a table that is gone';
COMMENT ON COLUMN envelope_private.key.kek IS 'the KEK and store of the next DEK version; each version names its own';
COMMENT ON COLUMN envelope_private.key.row_key IS 'primary key columns that bind values to their row, in the key''s order';
COMMENT ON COLUMN envelope_private.key.by_role IS 'row-level security: the view runs as its caller, with the caller''s own right';
COMMENT ON COLUMN envelope_private.key.as_caller IS
    'a write runs code of the table, so the triggers of the view run as their caller';
COMMENT ON COLUMN envelope_private.key.mirrored IS
    'with as_caller: the privileges on the view that were copied to the base table';
COMMENT ON COLUMN envelope_private.key.scope IS
    'which values share a DEK: all of the table, or those of one value of scope_column';
COMMENT ON COLUMN envelope_private.key.scope_of IS 'the key whose DEKs this one uses; NULL: its own';
COMMENT ON COLUMN envelope_private.key.erased IS 'the result of a read after the DEK was destroyed: an error, or NULL';
COMMENT ON COLUMN envelope_private.key.rollout IS
    'protect(online), unprotect(online) or an adoption is under way: some values are in the clear or in the form of other software, and others are envelopes. tokens: the first step of protect(online), in which search columns are filled and every value is still in the clear';
COMMENT ON COLUMN envelope_private.key.residue IS
    'the files of the base table, or of its partitions, whose dead rows hold values in the clear; a rewrite makes another file';
COMMENT ON COLUMN envelope_private.key.checks IS 'CHECK constraints on plaintext, which the trigger checks: [{name, expression}]';

CREATE SEQUENCE envelope_private.dek_id_seq;

-- Sequences do not follow their tables into a subscriber of logical replication, nor with rows that were loaded by
-- hand. nextval() only goes forward. setval() could take back an id that another session has drawn.
CREATE FUNCTION envelope_private.next_dek_id() RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    drawn bigint;
    highest bigint := (SELECT max(dek_id) FROM envelope_private.dek);
BEGIN
    LOOP
        drawn := nextval('envelope_private.dek_id_seq');
        EXIT WHEN drawn > coalesce(highest, 0);
    END LOOP;
    RETURN drawn;
END $$;
COMMENT ON FUNCTION envelope_private.next_dek_id IS 'an id for a new DEK, above all that the catalog has';

CREATE TABLE envelope_private.dek (
    dek_id bigint PRIMARY KEY DEFAULT envelope_private.next_dek_id(),
    key_uuid uuid NOT NULL,
    version integer NOT NULL,
    scope text,
    state text NOT NULL CHECK (state IN ('pre-active', 'active', 'suspended', 'decrypt-only', 'compromised', 'destroyed')),
    suspended_from text,
    is_retired boolean NOT NULL DEFAULT false,
    kek text NOT NULL,
    store text NOT NULL CHECK (store IN ('vault', 'catalog')),
    wrapped text,
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 16),
    kek_version integer,
    created_at timestamptz NOT NULL DEFAULT now(),
    state_since timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (key_uuid, scope, version),
    CHECK ((state = 'suspended') = (suspended_from IS NOT NULL))
);
COMMENT ON TABLE envelope_private.dek IS 'one row per DEK version; wrapped is NULL in store vault';
COMMENT ON COLUMN envelope_private.dek.scope IS 'the tenant or subject, as canonical text; NULL: the whole table, or a named key';
COMMENT ON COLUMN envelope_private.dek.suspended_from IS 'the state to which a suspended version returns';
COMMENT ON COLUMN envelope_private.dek.is_retired IS 'suspended by retire(): unsuspend() of the whole key leaves it as it is';

CREATE TABLE envelope_private.field (
    field_uuid uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    key_uuid uuid NOT NULL,
    attnum smallint,
    attname name,
    bind text NOT NULL CHECK (bind IN ('row', 'column', 'context', 'search')),
    suite smallint NOT NULL CHECK (suite IN (1, 2, 3, 4, 5)),
    pad boolean NOT NULL DEFAULT false,
    audit text NOT NULL DEFAULT 'none' CHECK (audit IN ('none', 'statement', 'row', 'sync')),
    limit_rows integer CHECK (limit_rows > 0),
    limit_seconds integer CHECK (limit_seconds > 0),
    limit_then text CHECK (limit_then IN ('refuse', 'alarm')),
    plain_type text,
    plain_collation text,
    plain_storage "char",
    plain_column name,
    plain_not_null boolean NOT NULL DEFAULT false,
    in_rollout boolean NOT NULL DEFAULT false,
    CHECK (num_nulls(limit_rows, limit_seconds, limit_then) IN (0, 3)),
    CHECK (limit_rows IS NULL OR audit <> 'none'),
    CHECK (suite <> 4 OR bind = 'column')
);
COMMENT ON TABLE envelope_private.field IS
    'one row per protected column, named key or search key; field_uuid is part of every envelope''s associated data';
COMMENT ON COLUMN envelope_private.field.audit IS 'what the ledger of reads holds of a read: docs/ledger.md';
COMMENT ON COLUMN envelope_private.field.plain_column IS
    'the column of the base table that has the values in the clear during a roll-out. Afterwards it is empty, and keeps the place of the protected column among the others';
COMMENT ON COLUMN envelope_private.field.plain_not_null IS 'during a roll-out: the values are NOT NULL';
COMMENT ON COLUMN envelope_private.field.in_rollout IS 'the roll-out under way changes the form of the values of this column';
COMMENT ON COLUMN envelope_private.field.limit_rows IS
    'how many values one user may read in limit_seconds; NULL: any number. limit_then says what happens beyond';
COMMENT ON COLUMN envelope_private.field.plain_collation IS 'as regcollation writes it; pg_upgrade refuses that type';

CREATE SEQUENCE envelope_private.key_id_seq MAXVALUE 4294967295;

CREATE FUNCTION envelope_private.next_key_id() RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    drawn bigint;
    highest bigint := (SELECT max(key_id) FROM envelope_private.field_key);
BEGIN
    LOOP
        drawn := nextval('envelope_private.key_id_seq');
        EXIT WHEN drawn > coalesce(highest, 0);
    END LOOP;
    RETURN drawn;
EXCEPTION WHEN sequence_generator_limit_exceeded THEN
    RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'all key ids of this database are used',
        DETAIL = 'An envelope names its key in 32 bits, and no id is used twice.',
        HINT = 'Values can still be read. New keys need another database: docs/scopes.md.';
END $$;
COMMENT ON FUNCTION envelope_private.next_key_id IS 'an id for a new field key, above all that the catalog has';

CREATE TABLE envelope_private.field_key (
    key_id bigint PRIMARY KEY DEFAULT envelope_private.next_key_id() CHECK (key_id BETWEEN 1 AND 4294967295),
    field_uuid uuid,
    dek_id bigint NOT NULL,
    version integer NOT NULL,
    salt bytea NOT NULL CHECK (octet_length(salt) = 32),
    state text NOT NULL CHECK (state IN ('pre-active', 'active', 'decrypt-only', 'compromised', 'destroyed')),
    counted_from bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (field_uuid, version)
);
CREATE UNIQUE INDEX field_key_one_active ON envelope_private.field_key (field_uuid) WHERE state = 'active';
COMMENT ON TABLE envelope_private.field_key IS 'one row per key id that a header can name';
COMMENT ON COLUMN envelope_private.field_key.field_uuid IS 'NULL: every field of the DEK''s key, in tenant and subject scope';
COMMENT ON COLUMN envelope_private.field_key.counted_from IS 'the value of the field''s message counter when this key was made';

CREATE TABLE envelope_private.key_grant (
    key_uuid uuid NOT NULL,
    role regrole NOT NULL,
    granted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (key_uuid, role)
);
COMMENT ON TABLE envelope_private.key_grant IS 'who may use a named key; members of a granted role may, too';

-- The right to a column, which the path hands over: generated views read it with their owner's rights. The right never
-- goes into a dump; a restored database draws new ones (trigger on field_key, sql/40_capability.sql).
CREATE TABLE envelope_private.capability (
    field_uuid uuid PRIMARY KEY REFERENCES envelope_private.field ON DELETE CASCADE,
    capability bytea NOT NULL CHECK (octet_length(capability) = 16),
    seal bytea CHECK (octet_length(seal) IN (22, 38)),
    view_owner regrole
);
ALTER TABLE envelope_private.capability ENABLE ROW LEVEL SECURITY;
-- One policy for all, because another for each owner would need a lock against all readers.
CREATE POLICY view_owner ON envelope_private.capability FOR SELECT
    USING (pg_catalog.pg_has_role(view_owner::oid, 'USAGE'));
COMMENT ON TABLE envelope_private.capability IS
    'capability decrypts a column; seal = capability | header of the active key, encrypts; in tenant and subject scope: capability | header with key id 0 | field uuid. A row policy limits owners to their own rows';

SELECT pg_catalog.pg_extension_config_dump('envelope_private.installation', '');
SELECT pg_catalog.pg_extension_config_dump('envelope_private.key', '');
SELECT pg_catalog.pg_extension_config_dump('envelope_private.dek_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('envelope_private.dek', '');
SELECT pg_catalog.pg_extension_config_dump('envelope_private.field', '');
SELECT pg_catalog.pg_extension_config_dump('envelope_private.key_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('envelope_private.field_key', '');
-- A dropped role is a number in a dump, which may be another role's where the dump is restored.
SELECT pg_catalog.pg_extension_config_dump(
    'envelope_private.key_grant', 'WHERE EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) role)');
