-- Which keys were erased, and which backups may still hold them. State; made once.

CREATE TABLE envelope_private.tombstone (
    dek_id bigint NOT NULL,
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 16),
    key_uuid uuid,
    label text NOT NULL,
    subject bytea CHECK (octet_length(subject) = 32),
    salt bytea CHECK (octet_length(salt) = 16),
    kek text NOT NULL,
    store text NOT NULL CHECK (store IN ('vault', 'catalog')),
    kek_version integer,
    reason text NOT NULL,
    erased_by text NOT NULL,
    erased_at timestamptz NOT NULL,
    made_at timestamptz,
    ledger_line bigint NOT NULL,
    PRIMARY KEY (dek_id, fingerprint)
);
COMMENT ON TABLE envelope_private.tombstone IS 'one row per DEK that was erased, as the broker''s ledger has it';
COMMENT ON COLUMN envelope_private.tombstone.subject IS 'SHA-256(salt | the subject''s text in UTF-8); NULL: a whole table or a named key';
COMMENT ON COLUMN envelope_private.tombstone.key_uuid IS 'NULL, as made_at: this catalog never had the DEK';

CREATE TABLE envelope_private.backup (
    label text PRIMARY KEY,
    taken_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    expires_at timestamptz,
    registered_at timestamptz NOT NULL DEFAULT now(),
    forgotten_at timestamptz,
    CHECK (expires_at > taken_at),
    CHECK (finished_at >= taken_at)
);
COMMENT ON TABLE envelope_private.backup IS
    'backups of this database that exist or existed; expires_at NULL: kept for ever';
COMMENT ON COLUMN envelope_private.backup.finished_at IS
    'the backup may hold whatever there was between taken_at and this time; infinity: it is under way, or was broken off';
COMMENT ON COLUMN envelope_private.backup.forgotten_at IS
    'when it was said to be destroyed; the row stays, so that its label names no other backup later';

SELECT pg_catalog.pg_extension_config_dump('envelope_private.tombstone', '');
SELECT pg_catalog.pg_extension_config_dump('envelope_private.backup', '');
