-- Adoption of what other software encrypted: docs/adopt.md. State; made once.

CREATE TABLE envelope_private.legacy_key (
    key_uuid uuid PRIMARY KEY,
    format text NOT NULL,
    sealed envelope.ciphertext NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE envelope_private.legacy_key IS
    'keys of other software, each sealed under the named key of the same name. Only the columns that are being adopted use them';

CREATE TABLE envelope_private.adoption (
    field_uuid uuid PRIMARY KEY,
    legacy_key uuid NOT NULL,
    format text NOT NULL,
    accepts_unauthenticated boolean NOT NULL,
    beside name[] NOT NULL DEFAULT '{}',
    began_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE envelope_private.adoption IS 'columns whose old values are what other software encrypted';
COMMENT ON COLUMN envelope_private.adoption.format IS 'the name of a layout, or its specification as JSON';
COMMENT ON COLUMN envelope_private.adoption.beside IS
    'the columns that hold parts of the old values, such as their IVs, in the order in which the specification needs them';

SELECT pg_catalog.pg_extension_config_dump('envelope_private.legacy_key', '');
SELECT pg_catalog.pg_extension_config_dump('envelope_private.adoption', '');
