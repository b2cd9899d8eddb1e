-- KEKs and stores of single tenants, which differ from those of the table's other keys: docs/tenants.md.

CREATE TABLE envelope_private.tenant (
    key_uuid uuid NOT NULL,
    scope text NOT NULL,
    kek text NOT NULL,
    store text NOT NULL CHECK (store IN ('vault', 'catalog')),
    since timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (key_uuid, scope)
);
COMMENT ON TABLE envelope_private.tenant IS
    'the KEK and store of a tenant''s next DEK; key_uuid owns the DEKs, scope is as in dek. Tenants without a row use those of the key';

SELECT pg_catalog.pg_extension_config_dump('envelope_private.tenant', '');

-- It is a sequence, because its value is visible in every snapshot. It is not dumped: a transaction id belongs to one
-- cluster.
CREATE SEQUENCE envelope_private.suspension_xid;
COMMENT ON SEQUENCE envelope_private.suspension_xid IS
    'the last transaction that suspended a key. A transaction whose snapshot does not show it must not load keys';

-- This is for standbys, which replay the row and the sequence in the order of the writes. It is not dumped, as above.
CREATE TABLE envelope_private.revocation (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    xid bigint NOT NULL DEFAULT 1
);
COMMENT ON TABLE envelope_private.revocation IS
    'the last transaction that suspended or destroyed a key, as a snapshot shows it; one row';
INSERT INTO envelope_private.revocation DEFAULT VALUES;
CREATE SEQUENCE envelope_private.revocation_xid;
COMMENT ON SEQUENCE envelope_private.revocation_xid IS
    'the same transaction, set after its commit and visible in every snapshot. The sessions of a standby drop their keys when it changes';
