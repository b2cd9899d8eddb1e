-- A rekey() under way: DEKs wrapped for the new environment, beside the old wraps, until all are there. State; made
-- once. These are not dumped: a copy of this database begins anew, with a database uuid of its own.

CREATE TABLE envelope_private.rekey (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    from_environment text NOT NULL,
    environment text NOT NULL,
    database_uuid uuid NOT NULL DEFAULT gen_random_uuid(),
    started_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE envelope_private.rekey IS 'the rekey that is under way: its old and new place. database_uuid is the new one. Without a row, none is under way';

CREATE TABLE envelope_private.rekey_dek (
    dek_id bigint PRIMARY KEY,
    old_wrapped text,
    kek text NOT NULL,
    store text NOT NULL CHECK (store IN ('vault', 'catalog')),
    wrapped text,
    kek_version integer NOT NULL
);
COMMENT ON TABLE envelope_private.rekey_dek IS
    'DEKs that have their new wrap. A row is valid while the catalog still has the old wrap that it was made from';
