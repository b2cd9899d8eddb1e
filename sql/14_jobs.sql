-- Re-encryption and verification: the jobs with their shares of a table, the orders to them, the values that do not
-- open, and the receipts. A job runs on this server only, so jobs are not dumped. Receipts are dumped.

CREATE TABLE envelope_private.job (
    job_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    key_uuid uuid NOT NULL,
    what text NOT NULL CHECK (what IN ('reencrypt', 'verify', 'search', 'online', 'adopt')),
    part integer NOT NULL,
    parts integer NOT NULL,
    pid integer NOT NULL,
    backend_start timestamptz,
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'paused', 'aborted', 'failed', 'done')),
    complete boolean NOT NULL DEFAULT false,
    blocks_total bigint NOT NULL DEFAULT 0,
    blocks_done bigint NOT NULL DEFAULT 0,
    rows_done bigint NOT NULL DEFAULT 0,
    faults bigint NOT NULL DEFAULT 0,
    held_up_by text,
    seconds double precision NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (key_uuid, what, part, parts),
    CHECK (part BETWEEN 1 AND parts)
);
COMMENT ON TABLE envelope_private.job IS 'one row per share of a table that reencrypt, verify, add_search, rotate_search, a roll-out or an adoption works on, or worked on last';
COMMENT ON COLUMN envelope_private.job.backend_start IS 'identifies the session, with pid: another session may get the same pid later';
COMMENT ON COLUMN envelope_private.job.held_up_by IS 'what slows the job down, in words; NULL: nothing';
COMMENT ON COLUMN envelope_private.job.complete IS 'all parts are done, and the table as a whole';
COMMENT ON COLUMN envelope_private.job.rows_done IS 'rows that reencrypt, a search job or a roll-out wrote, or values that verify opened';
COMMENT ON COLUMN envelope_private.job.faults IS 'values that do not open';
COMMENT ON COLUMN envelope_private.job.seconds IS 'seconds of work, without pauses';

-- It is a table of its own, because a session that orders must not lock the row that a worker writes with each batch.
CREATE TABLE envelope_private.job_order (
    job_id uuid PRIMARY KEY,
    wanted text NOT NULL CHECK (wanted IN ('run', 'pause', 'abort'))
);
COMMENT ON TABLE envelope_private.job_order IS 'orders of pause, resume and abort to a job. The job looks for them between batches';

-- Row keys are not secret, and not for everybody either: envelope.faults shows them to the table's owner only.
CREATE TABLE envelope_private.fault (
    field_uuid uuid NOT NULL,
    row_key jsonb NOT NULL,
    key_id bigint NOT NULL,
    reason text NOT NULL,
    found_by text NOT NULL CHECK (found_by IN ('reencrypt', 'verify', 'adopt')),
    found_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- It has no primary key, and a published table must be able to say which row changed.
ALTER TABLE envelope_private.fault REPLICA IDENTITY FULL;
CREATE INDEX fault_of_field ON envelope_private.fault (field_uuid);
COMMENT ON TABLE envelope_private.fault IS 'values that the last reencrypt or verify of their table could not open';

CREATE TABLE envelope_private.verification (
    key_uuid uuid PRIMARY KEY,
    base oid NOT NULL,
    heap oid NOT NULL DEFAULT 0,
    filenode oid,
    next_block bigint NOT NULL DEFAULT 0,
    value_count bigint NOT NULL DEFAULT 0,
    faults jsonb NOT NULL DEFAULT '{}',
    began_xid xid NOT NULL DEFAULT pg_current_xact_id()::xid,
    began_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz
);
COMMENT ON TABLE envelope_private.verification IS 'the last verify of each table: its result, or its progress';
COMMENT ON COLUMN envelope_private.verification.heap IS
    'the relation in which the walk is: the base table, or one of its partitions';
COMMENT ON COLUMN envelope_private.verification.filenode IS
    'the file in which the blocks are counted. VACUUM FULL and the like make another file, and then the count begins anew';
COMMENT ON COLUMN envelope_private.verification.faults IS 'how many values do not open, by reason';

CREATE TABLE envelope_private.receipt (
    receipt_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    key_uuid uuid NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    statement text NOT NULL,
    signature text NOT NULL,
    public_key text NOT NULL
);
COMMENT ON TABLE envelope_private.receipt IS
    'signed statements about the key versions of a table''s envelopes; statement is the text as it was signed';
SELECT pg_catalog.pg_extension_config_dump('envelope_private.receipt', '');
