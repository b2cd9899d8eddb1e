-- Tenant and subject scope: FORMAT.md section 3. A DEK for each value of a column, made at its first write.

CREATE TABLE envelope_private.spare_dek (
    dek_id bigint PRIMARY KEY,
    key_uuid uuid NOT NULL,
    kek text NOT NULL,
    wrapped text NOT NULL,
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 16),
    kek_version integer NOT NULL,
    key_id bigint NOT NULL CHECK (key_id BETWEEN 1 AND 4294967295),
    salt bytea NOT NULL CHECK (octet_length(salt) = 32),
    home text NOT NULL
);
CREATE INDEX spare_dek_next ON envelope_private.spare_dek (key_uuid, kek, key_id);
COMMENT ON TABLE envelope_private.spare_dek IS
    'DEKs of store catalog that wait for their tenant or subject: made in batches, never dumped, dropped when their KEK rotates';
COMMENT ON COLUMN envelope_private.spare_dek.home IS
    'the database that made it, as in installation: a copy does not use the spares of its original';

-- It is a sequence, because its value is visible in every snapshot. A session may keep DEKs whose transaction was
-- rolled back: those of another generation are not used any more.
CREATE SEQUENCE envelope_private.spare_generation;
COMMENT ON SEQUENCE envelope_private.spare_generation IS 'moves when spares are dropped';

CREATE FUNCTION envelope_private.drop_spares(
    of_kek text DEFAULT NULL, below integer DEFAULT NULL, of_key uuid DEFAULT NULL) RETURNS bigint
    LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT nextval('envelope_private.spare_generation');
    -- A spare that a transaction is taking becomes a DEK in use. After a rollback it is found here again.
    WITH gone AS (
        DELETE FROM envelope_private.spare_dek WHERE dek_id IN (
            SELECT s.dek_id FROM envelope_private.spare_dek s
            WHERE (of_kek IS NULL OR s.kek = of_kek) AND (below IS NULL OR s.kek_version < below)
                AND (of_key IS NULL OR s.key_uuid = of_key) FOR UPDATE SKIP LOCKED)
        RETURNING dek_id)
    SELECT count(*) FROM gone;
END;
COMMENT ON FUNCTION envelope_private.drop_spares IS
    'drops spare DEKs under a KEK, below one of its versions, or of a key; returns how many';

-- With a DEK for each subject these tables hold millions of rows. The index includes the state. Plans are made while
-- the tables are empty, and a search for a DEK's active key must not seem as cheap by field_key_one_active, which would
-- then be read from end to end.
CREATE INDEX field_key_of_dek ON envelope_private.field_key (dek_id, state);
CREATE INDEX key_of_deks ON envelope_private.key ((coalesce(scope_of, key_uuid)));
CREATE INDEX field_of_key ON envelope_private.field (key_uuid);
