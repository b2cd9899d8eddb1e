-- Secrets: passphrases and API keys that SQL and applications name. State; made once.

CREATE TABLE envelope_private.secret (
    key_uuid uuid NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    sealed envelope.ciphertext NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (key_uuid, version)
);
COMMENT ON TABLE envelope_private.secret IS
    'passphrases, API keys and other secrets, each sealed under the named key of the same name';

CREATE TABLE envelope_private.pgcrypto_setting (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    literal_keys_forbidden boolean NOT NULL
);
COMMENT ON TABLE envelope_private.pgcrypto_setting IS
    'the last argument of envelope.forbid_literal_keys(); no row before the first call. A restored row takes effect as it is loaded';

-- A name in SQL for a secret. It is a composite type, because PostgreSQL ignores casts from a domain.
CREATE TYPE envelope.secret_ref AS (name text, version integer);
COMMENT ON TYPE envelope.secret_ref IS
    'names a secret; a NULL version means the newest. Where pgcrypto takes a key or password, PostgreSQL turns it into the secret itself';

SELECT pg_catalog.pg_extension_config_dump('envelope_private.secret', '');
SELECT pg_catalog.pg_extension_config_dump('envelope_private.pgcrypto_setting', '');
