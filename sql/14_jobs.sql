-- Re-encryption: who works on which share of a table, what others asked of them, and the receipts. Jobs are what this
-- server does now, so they are not dumped; receipts are.

CREATE TABLE envelope_private.job (
    job_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    key_uuid uuid NOT NULL,
    part integer NOT NULL,
    parts integer NOT NULL,
    pid integer NOT NULL,
    backend_start timestamptz,
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'paused', 'aborted', 'failed', 'done')),
    complete boolean NOT NULL DEFAULT false,
    blocks_total bigint NOT NULL DEFAULT 0,
    blocks_done bigint NOT NULL DEFAULT 0,
    rows_done bigint NOT NULL DEFAULT 0,
    seconds double precision NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (key_uuid, part, parts),
    CHECK (part BETWEEN 1 AND parts)
);
COMMENT ON TABLE envelope_private.job IS 'one row per share of a table that reencrypt works on, or worked on last';
COMMENT ON COLUMN envelope_private.job.backend_start IS 'with pid: which session; another one may get the same pid later';
COMMENT ON COLUMN envelope_private.job.complete IS 'all parts are done, and the table as a whole';
COMMENT ON COLUMN envelope_private.job.seconds IS 'at work, pauses not counted';

-- A table of its own: who asks must not lock the row that a worker writes with each batch.
CREATE TABLE envelope_private.job_order (
    job_id uuid PRIMARY KEY,
    wanted text NOT NULL CHECK (wanted IN ('run', 'pause', 'abort'))
);
COMMENT ON TABLE envelope_private.job_order IS 'what pause, resume and abort ask of a job; it looks between batches';

CREATE TABLE envelope_private.receipt (
    receipt_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    key_uuid uuid NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    statement text NOT NULL,
    signature text NOT NULL,
    public_key text NOT NULL
);
COMMENT ON TABLE envelope_private.receipt IS
    'signed statements that no envelope of a table is under an old key version; statement is the text as it was signed';
SELECT pg_catalog.pg_extension_config_dump('envelope_private.receipt', '');
