-- The key catalog and what is protected: FORMAT.md section 3. Made once; changed by upgrade scripts only.
-- No foreign keys between tables that are dumped: pg_restore --jobs loads an extension's tables in any order, each in a
-- transaction of its own. envelope.status() looks for rows without their parent instead.

CREATE TABLE envelope_private.installation (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    database_uuid uuid NOT NULL DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE envelope_private.installation IS
    'who this database is to the KMS; one row, made when the first key is, so that a restored dump brings its own';

CREATE TABLE envelope_private.key (
    key_uuid uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text UNIQUE,
    base regclass UNIQUE,
    view regclass UNIQUE,
    kek text NOT NULL,
    store text NOT NULL CHECK (store IN ('vault', 'catalog')),
    row_key name[] NOT NULL DEFAULT '{}',
    by_role boolean NOT NULL DEFAULT false,
    checks jsonb NOT NULL DEFAULT '[]',
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK (name IS NULL OR base IS NULL)
);
COMMENT ON TABLE envelope_private.key IS
    'one key with all its versions: a named key, or the key of a protected table; neither name nor base: its table is gone';
COMMENT ON COLUMN envelope_private.key.kek IS 'the KEK and store of the next DEK version; each version names its own';
COMMENT ON COLUMN envelope_private.key.row_key IS 'primary key columns that bind values to their row, in the key''s order';
COMMENT ON COLUMN envelope_private.key.by_role IS 'row-level security: the view runs as its caller, and so does the right';
COMMENT ON COLUMN envelope_private.key.checks IS 'CHECK constraints on plaintext, which the trigger checks: [{name, expression}]';

CREATE SEQUENCE envelope_private.dek_id_seq;

CREATE TABLE envelope_private.dek (
    dek_id bigint PRIMARY KEY DEFAULT nextval('envelope_private.dek_id_seq'),
    key_uuid uuid NOT NULL,
    version integer NOT NULL,
    state text NOT NULL CHECK (state IN ('pre-active', 'active', 'decrypt-only', 'compromised', 'destroyed')),
    kek text NOT NULL,
    store text NOT NULL CHECK (store IN ('vault', 'catalog')),
    wrapped text,
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 16),
    kek_version integer,
    created_at timestamptz NOT NULL DEFAULT now(),
    state_since timestamptz NOT NULL DEFAULT now(),
    UNIQUE (key_uuid, version)
);
COMMENT ON TABLE envelope_private.dek IS 'one row per DEK version; wrapped is NULL in store vault';

CREATE TABLE envelope_private.field (
    field_uuid uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    key_uuid uuid NOT NULL,
    attnum smallint,
    attname name,
    bind text NOT NULL CHECK (bind IN ('row', 'column', 'context')),
    suite smallint NOT NULL CHECK (suite IN (1, 2, 3, 5)),
    pad boolean NOT NULL DEFAULT false,
    plain_type text,
    plain_collation text,
    plain_storage "char"
);
COMMENT ON TABLE envelope_private.field IS
    'one row per protected column or named key; field_uuid is part of every envelope''s associated data';
COMMENT ON COLUMN envelope_private.field.plain_collation IS 'as regcollation writes it; pg_upgrade refuses that type';

CREATE SEQUENCE envelope_private.key_id_seq MAXVALUE 4294967295;

CREATE TABLE envelope_private.field_key (
    key_id bigint PRIMARY KEY DEFAULT nextval('envelope_private.key_id_seq') CHECK (key_id BETWEEN 1 AND 4294967295),
    field_uuid uuid NOT NULL,
    dek_id bigint NOT NULL,
    version integer NOT NULL,
    salt bytea NOT NULL CHECK (octet_length(salt) = 32),
    state text NOT NULL CHECK (state IN ('pre-active', 'active', 'decrypt-only', 'compromised', 'destroyed')),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (field_uuid, version)
);
CREATE UNIQUE INDEX field_key_one_active ON envelope_private.field_key (field_uuid) WHERE state = 'active';
COMMENT ON TABLE envelope_private.field_key IS 'one row per key id that a header can name';

CREATE TABLE envelope_private.key_grant (
    key_uuid uuid NOT NULL,
    role regrole NOT NULL,
    granted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (key_uuid, role)
);
COMMENT ON TABLE envelope_private.key_grant IS 'who may use a named key; members of a granted role may, too';

-- The right to a column, as something the path hands over: generated views read it with their owner's rights. It never
-- goes into a dump; a restored database draws new ones (trigger on field_key, sql/40_capability.sql).
CREATE TABLE envelope_private.capability (
    field_uuid uuid PRIMARY KEY REFERENCES envelope_private.field ON DELETE CASCADE,
    capability bytea NOT NULL CHECK (octet_length(capability) = 16),
    seal bytea CHECK (octet_length(seal) = 22),
    view_owner regrole
);
ALTER TABLE envelope_private.capability ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE envelope_private.capability IS
    'capability decrypts a column; seal = capability | header of the active key, encrypts. Row policies per view owner';

SELECT pg_catalog.pg_extension_config_dump('envelope_private.installation', '');
SELECT pg_catalog.pg_extension_config_dump('envelope_private.key', '');
SELECT pg_catalog.pg_extension_config_dump('envelope_private.dek_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('envelope_private.dek', '');
SELECT pg_catalog.pg_extension_config_dump('envelope_private.field', '');
SELECT pg_catalog.pg_extension_config_dump('envelope_private.key_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('envelope_private.field_key', '');
SELECT pg_catalog.pg_extension_config_dump('envelope_private.key_grant', '');
