-- Tenant and subject scope: FORMAT.md section 3. A DEK for each value of a column, made at its first write.

CREATE TABLE envelope_private.spare_dek (
    dek_id bigint PRIMARY KEY,
    key_uuid uuid NOT NULL,
    kek text NOT NULL,
    wrapped text NOT NULL,
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 16),
    kek_version integer NOT NULL,
    key_id bigint NOT NULL CHECK (key_id BETWEEN 1 AND 4294967295),
    salt bytea NOT NULL CHECK (octet_length(salt) = 32)
);
CREATE INDEX spare_dek_next ON envelope_private.spare_dek (key_uuid, kek, key_id);
COMMENT ON TABLE envelope_private.spare_dek IS
    'DEKs of store catalog that wait for their tenant or subject: made in batches, never dumped, dropped when their KEK rotates';

-- With a DEK for each subject these tables hold millions of rows.
CREATE INDEX field_key_of_dek ON envelope_private.field_key (dek_id);
CREATE INDEX key_of_deks ON envelope_private.key ((coalesce(scope_of, key_uuid)));
CREATE INDEX field_of_key ON envelope_private.field (key_uuid);
