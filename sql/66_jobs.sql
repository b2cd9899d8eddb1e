-- Re-encryption and verification: their progress, their results, and receipts. SECURITY DEFINER, so that EXECUTE alone
-- can be granted to an operator.

CREATE VIEW envelope_private.live_job AS
    SELECT j.*
    FROM envelope_private.job j
    JOIN pg_catalog.pg_stat_activity a ON a.pid = j.pid AND a.backend_start IS NOT DISTINCT FROM j.backend_start
    WHERE j.state IN ('running', 'paused') AND a.state IS DISTINCT FROM 'idle'
        -- The session's statement is still that CALL. Where track_activities is off, that is not known.
        AND (a.query_start IS NULL OR a.query_start <= j.started_at);
COMMENT ON VIEW envelope_private.live_job IS 'jobs whose session still works';

CREATE VIEW envelope.progress AS
    SELECT t.view::regclass AS relation, j.what, j.part, j.parts,
        CASE WHEN j.state IN ('running', 'paused')
                AND NOT EXISTS (SELECT FROM envelope_private.live_job l WHERE l.job_id = j.job_id)
            THEN 'interrupted' ELSE j.state END AS state,
        j.blocks_done, j.blocks_total, j.rows_done AS rows, j.faults,
        round((j.rows_done / nullif(j.seconds, 0))::numeric, 1) AS rows_per_second,
        CASE WHEN j.state IN ('running', 'paused') AND j.blocks_done > 0
            THEN make_interval(secs => round(j.seconds * (j.blocks_total - j.blocks_done) / j.blocks_done)) END AS eta,
        CASE j.state WHEN 'running' THEN j.held_up_by END AS held_up_by, j.pid, j.started_at, j.updated_at
    FROM envelope_private.job j
    JOIN envelope_private.protected_table t USING (key_uuid)
    ORDER BY t.base, j.what, j.parts, j.part;
COMMENT ON VIEW envelope.progress IS
    'one row per job of reencrypt, verify, of add_search and rotate_search (search), of protect and unprotect (online), or of convert (adopt), running or last: state running, paused, interrupted (its session is gone), aborted, failed or done';

CREATE VIEW envelope.receipts AS
    SELECT k.view::regclass AS relation, r.made_at, (r.statement::jsonb #>> '{statement,finished_at}')::timestamptz AS finished_at,
        (r.statement::jsonb #>> '{statement,rows}')::bigint AS rows,
        (r.statement::jsonb #>> '{statement,left}')::bigint AS "left", r.statement, r.signature, r.public_key, r.receipt_id
    FROM envelope_private.receipt r
    LEFT JOIN envelope_private.key k USING (key_uuid)
    ORDER BY r.made_at;
COMMENT ON VIEW envelope.receipts IS
    'signed statements of reencrypt: pg-envelope receipts exports them, pg-envelope verify-receipt checks them. "left" counts values that do not open';

-- Everybody may ask. An owner sees the own tables, and a superuser all.
CREATE VIEW envelope.faults WITH (security_barrier) AS
    SELECT DISTINCT ON (k.base, f.attnum, x.row_key) k.view::regclass AS relation, f.attname AS "column", x.row_key,
        x.reason, x.key_id, x.found_by, x.found_at
    FROM envelope_private.fault x
    JOIN envelope_private.field f USING (field_uuid)
    JOIN envelope_private.key k USING (key_uuid)
    JOIN pg_catalog.pg_class b ON b.oid = k.base
    WHERE pg_has_role(b.relowner, 'USAGE')
    ORDER BY k.base, f.attnum, x.row_key, x.found_at DESC;
COMMENT ON VIEW envelope.faults IS
    'values that do not open, as the last verify or reencrypt of their table found them: reason key unknown, key destroyed, key suspended, key lost, storage damaged, not of its type, or does not open; or wrong token, where the value opens and a search would not find its row. row_key is the primary key by column, or the ctid';

CREATE VIEW envelope.verifications WITH (security_barrier) AS
    SELECT k.view::regclass AS relation, v.began_at, v.finished_at, v.value_count,
        coalesce((SELECT sum(n::bigint) FROM jsonb_each_text(v.faults) AS e (reason, n)), 0)::bigint AS fault_count,
        v.faults AS reasons
    FROM envelope_private.verification v
    JOIN envelope_private.key k USING (key_uuid)
    JOIN pg_catalog.pg_class b ON b.oid = k.base
    WHERE pg_has_role(b.relowner, 'USAGE')
    ORDER BY k.base;
COMMENT ON VIEW envelope.verifications IS
    'the last verify of each table: when, how many values it opened or tried to, how many do not open; finished_at NULL: it runs, or ended early';

CREATE PROCEDURE envelope.verify(
    rel regclass DEFAULT NULL, batch_size integer DEFAULT 1000, pause_ms integer DEFAULT 0, anew boolean DEFAULT false)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.jobs.verify(rel, batch_size, pause_ms, anew)
$$;
COMMENT ON PROCEDURE envelope.verify IS
    'opens every value of a protected table, or of all of them, and lists in envelope.faults the values that do not open. Commits after about batch_size rows, and goes on where it ended early; anew => true begins again. Not inside a transaction';

CREATE FUNCTION envelope_private.order_jobs(rel regclass, wanted text) RETURNS bigint
    LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH asked AS (
        INSERT INTO envelope_private.job_order (job_id, wanted)
        SELECT l.job_id, order_jobs.wanted
        FROM envelope_private.live_job l JOIN envelope_private.key k USING (key_uuid)
        WHERE order_jobs.rel IN (k.base, k.view)
        ON CONFLICT (job_id) DO UPDATE SET wanted = excluded.wanted WHERE job_order.wanted <> 'abort'
        RETURNING 1)
    SELECT count(*) FROM asked;
END;
COMMENT ON FUNCTION envelope_private.order_jobs IS 'gives an order to all jobs of a table; returns how many jobs there are. An abort is final';

CREATE FUNCTION envelope.pause(rel regclass) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC SELECT envelope_private.order_jobs(rel, 'pause'); END;
COMMENT ON FUNCTION envelope.pause IS
    'pauses the jobs on a table (reencrypt, verify, add_search, rotate_search, protect and unprotect with online) after their batch, without locks, until resume; returns how many';

CREATE FUNCTION envelope.resume(rel regclass) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC SELECT envelope_private.order_jobs(rel, 'run'); END;
COMMENT ON FUNCTION envelope.resume IS 'lets paused jobs on a table go on; returns how many';

CREATE FUNCTION envelope.abort(rel regclass) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC SELECT envelope_private.order_jobs(rel, 'abort'); END;
COMMENT ON FUNCTION envelope.abort IS
    'ends the jobs on a table after their batch; what is committed stays. A protect or unprotect with online goes back to the table as it was. Returns how many';

CREATE FUNCTION envelope.receipt(rel regclass) RETURNS text
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.jobs.receipt(rel)
$$;
COMMENT ON FUNCTION envelope.receipt IS
    'counts the envelopes of a table by key version, and lets the broker sign that no envelope that opens is under an old version; returns the statement';
