-- Canaries: docs/canaries.md. State; made once.

CREATE TABLE envelope_private.canary (
    dek_id bigint PRIMARY KEY,
    key_uuid uuid NOT NULL,
    row_key jsonb NOT NULL,
    note text,
    planted_by name NOT NULL DEFAULT session_user,
    planted_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE envelope_private.canary IS
    'one row per canary: the DEK that its row alone has, whose version is below 0, and how to find the row';
COMMENT ON COLUMN envelope_private.canary.key_uuid IS 'the key of the table; the DEK may be of the key that this one shares';

SELECT pg_catalog.pg_extension_config_dump('envelope_private.canary', '');
