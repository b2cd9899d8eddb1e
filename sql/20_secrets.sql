-- Secrets: passphrases and keys of pgcrypto that SQL names and never shows. State; made once.

CREATE TABLE envelope_private.secret (
    key_uuid uuid NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    sealed envelope.ciphertext NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (key_uuid, version)
);
COMMENT ON TABLE envelope_private.secret IS
    'passphrases and keys for envelope_pgcrypto, each sealed under the named key of the same name';

CREATE TABLE envelope_private.pgcrypto_setting (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    literal_keys_forbidden boolean NOT NULL
);
COMMENT ON TABLE envelope_private.pgcrypto_setting IS
    'what envelope.forbid_literal_keys() was last told; no row: never. A restored row takes effect as it is loaded';

-- A name in SQL for a secret. A composite type, because casts from a domain are ignored.
CREATE TYPE envelope.secret_ref AS (name text, version integer);
COMMENT ON TYPE envelope.secret_ref IS
    'names a secret, NULL version: the newest. Where pgcrypto takes a key or password it turns into the secret itself';

SELECT pg_catalog.pg_extension_config_dump('envelope_private.secret', '');
SELECT pg_catalog.pg_extension_config_dump('envelope_private.pgcrypto_setting', '');
