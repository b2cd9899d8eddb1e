-- Erasure: keys are destroyed for good. Keys that a restored backup brings back are destroyed again. Signed statements.

CREATE FUNCTION envelope.signing_keys() RETURNS TABLE (version integer, state text, public_key text)
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.reports.signing_keys()
$$;
COMMENT ON FUNCTION envelope.signing_keys IS
    'the public keys (Ed25519, base64) of this database''s receipts, one row per version of the key ''pg_envelope receipts''';

CREATE FUNCTION envelope.sign_report(report jsonb) RETURNS TABLE (statement text, signature text, public_key text)
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.reports.sign_report(report)
$$;
COMMENT ON FUNCTION envelope.sign_report IS
    'lets the broker sign a report of pg-envelope report. The signature shows who asked, of which database, and when; not that the facts are true';

-- Procedures commit, hence neither SECURITY DEFINER nor SET; they need a superuser and pin the search_path.

CREATE PROCEDURE envelope.shred(rel regclass, subject text DEFAULT NULL, reason text DEFAULT '')
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.erasure.shred(rel, subject, reason)
$$;
COMMENT ON PROCEDURE envelope.shred IS
    'destroys all key versions of a tenant or subject, or of a whole table, for good, which erases all values under them. It needs a reason. Not inside a transaction';

CREATE PROCEDURE envelope.shred_key(name text, reason text DEFAULT '')
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.erasure.shred_key(name, reason)
$$;
COMMENT ON PROCEDURE envelope.shred_key IS
    'destroys all versions of a named key for good, which erases all values under them. It needs a reason. Not inside a transaction';

CREATE FUNCTION envelope.replay_erasures(destroy_active boolean DEFAULT false)
    RETURNS TABLE (ledger_lines bigint, erased bigint, destroyed_again bigint, told_broker bigint, in_use bigint)
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.erasure.replay_erasures(destroy_active)
$$;
COMMENT ON FUNCTION envelope.replay_erasures IS
    'after a restore: verifies the broker''s ledger, and destroys again the keys that the ledger lists as erased; returns one row of counts. Warns of keys that are in use here, and destroys these only with destroy_active => true';

CREATE FUNCTION envelope.this_is_the_original() RETURNS void
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.backups.this_is_the_original()
$$;
COMMENT ON FUNCTION envelope.this_is_the_original IS
    'says that no other database has these keys any more: after a restore, a failover or a move. Before that nothing can be erased here';

CREATE FUNCTION envelope.register_backup(
    label text, taken_at timestamptz DEFAULT now(), expires_at timestamptz DEFAULT NULL,
    finished_at timestamptz DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(btrim(label), '') = '' OR taken_at IS NULL OR expires_at <= taken_at OR finished_at < taken_at THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'a backup needs a label, and a time that lies before its end',
            HINT = 'SELECT envelope.register_backup(''2026-01-31 base'', ''2026-01-31'', ''2026-04-30'')';
    END IF;
    INSERT INTO envelope_private.backup AS b (label, taken_at, expires_at, finished_at)
        VALUES ($1, $2, $3, coalesce($4, $2)) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = 'a backup of this label was registered before',
            DETAIL = (SELECT format('taken at %s, expires: %s, forgotten: %s', b.taken_at,
                    coalesce(b.expires_at::text, 'never'), coalesce(b.forgotten_at::text, 'no'))
                FROM envelope_private.backup b WHERE b.label = $1),
            HINT = 'A label names one backup for ever: choose another one, such as its date. envelope.keep_backup(label, '
                'expires_at) changes until when a backup is kept; envelope.backups lists all.';
    END IF;
END $$;
COMMENT ON FUNCTION envelope.register_backup IS
    'says that there is a backup of this database, so that shred_audit() and retire() count with it; a label is not used twice. finished_at: when a backup that takes its time was complete; ''infinity'' until finish_backup(label)';

CREATE FUNCTION envelope.finish_backup(label text) RETURNS boolean
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH finished AS (
        UPDATE envelope_private.backup b SET finished_at = clock_timestamp()
        WHERE b.label = $1 AND b.forgotten_at IS NULL AND b.finished_at = 'infinity' RETURNING 1)
    SELECT EXISTS (SELECT FROM finished);
END;
COMMENT ON FUNCTION envelope.finish_backup IS
    'says that a backup that was registered with finished_at ''infinity'' is complete; false when none of this label is under way';

CREATE FUNCTION envelope.keep_backup(label text, expires_at timestamptz) RETURNS boolean
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH kept AS (
        UPDATE envelope_private.backup b SET expires_at = keep_backup.expires_at
        WHERE b.label = $1 AND b.forgotten_at IS NULL RETURNING 1)
    SELECT EXISTS (SELECT FROM kept);
END;
COMMENT ON FUNCTION envelope.keep_backup IS
    'changes until when a registered backup is kept; NULL: for ever. False when none of this label is known';

CREATE FUNCTION envelope.forget_backup(label text) RETURNS boolean
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH gone AS (
        UPDATE envelope_private.backup b SET forgotten_at = now()
        WHERE b.label = $1 AND b.forgotten_at IS NULL RETURNING 1)
    SELECT EXISTS (SELECT FROM gone);
END;
COMMENT ON FUNCTION envelope.forget_backup IS 'says that a backup was destroyed; false when none of this label is known';

CREATE VIEW envelope.backups AS
    SELECT label, taken_at, expires_at,
        CASE WHEN forgotten_at IS NOT NULL THEN 'destroyed' WHEN expires_at <= now() THEN 'expired'
            WHEN finished_at = 'infinity' THEN 'under way' ELSE 'kept' END AS state,
        registered_at, forgotten_at, finished_at
    FROM envelope_private.backup
    ORDER BY taken_at, label;
COMMENT ON VIEW envelope.backups IS
    'backups of this database that were registered; those that are kept may hold keys and values of their time';

CREATE FUNCTION envelope_private.kms_versions()
    RETURNS TABLE (kek text, oldest integer, newest integer, databases text[])
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.keks.kms_versions()
$$;
COMMENT ON FUNCTION envelope_private.kms_versions IS
    'for each KEK the oldest version that its KMS opens, the newest one, and other databases under it that the broker has served; no row if the broker does not answer';

CREATE FUNCTION envelope.kek_versions(kek text)
    RETURNS TABLE (what text, oldest integer, newest integer, state text, hint text)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH kms AS MATERIALIZED (SELECT * FROM envelope_private.kms_versions() v WHERE v.kek = $1),
    here AS (
        SELECT min(d.kek_version) AS oldest, max(d.kek_version) AS newest FROM envelope_private.dek d
        WHERE d.kek = $1 AND d.state <> 'destroyed'),
    erased AS (
        SELECT min(t.kek_version) AS oldest, max(t.kek_version) AS newest FROM envelope_private.tombstone t
        WHERE t.kek = $1 AND t.store = 'catalog')
    SELECT 'the KMS', k.oldest, k.newest,
        CASE WHEN k.oldest IS NULL THEN 'not known' ELSE format('opens version %s and newer ones', k.oldest) END, NULL
    FROM kms k
    UNION ALL
    SELECT 'this database', h.oldest, h.newest,
        CASE WHEN h.oldest IS NULL THEN 'has no keys under it' WHEN h.oldest < k.oldest THEN 'cannot be read'
            WHEN h.oldest < k.newest THEN 'needs old versions' ELSE 'ok' END,
        CASE WHEN h.oldest < k.oldest THEN format('set min_decryption_version back to %s in the KMS, then CALL envelope.rewrap(%L)',
                h.oldest, $1)
            WHEN h.oldest < k.newest THEN format('CALL envelope.rewrap(%L)', $1) END
    FROM here h LEFT JOIN kms k ON true
    UNION ALL
    SELECT 'database ' || d.name, NULL, NULL, 'not known here',
        format('there: CALL envelope.rewrap(%L), then SELECT * FROM envelope.kek_versions(%1$L)', $1)
    FROM kms k, unnest(k.databases) d (name)
    UNION ALL
    SELECT 'databases that this broker has not served since its start', NULL, NULL, 'not known here',
        'ask the owners of other databases under this KEK' FROM kms
    UNION ALL
    SELECT 'erased keys in backups', e.oldest, e.newest,
        CASE WHEN e.newest < k.oldest THEN 'dead' ELSE 'can be revived' END,
        CASE WHEN e.newest < k.oldest THEN NULL
            ELSE format('when all databases above are ok: min_decryption_version = %s in the KMS', e.newest + 1) END
    FROM erased e LEFT JOIN kms k ON true WHERE e.newest IS NOT NULL;
END;
COMMENT ON FUNCTION envelope.kek_versions IS
    'which versions of a KEK are needed, and which open. Before you raise min_decryption_version it says which databases must rewrap first. Afterwards it says whether it worked';

CREATE FUNCTION envelope.shred_audit()
    RETURNS TABLE (backup text, taken_at timestamptz, expires_at timestamptz, erased text, dek_id bigint,
        erased_at timestamptz, subject text, store text, kek text, kek_version integer, state text, hint text)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH kms AS MATERIALIZED (SELECT * FROM envelope_private.kms_versions())
    SELECT b.label, b.taken_at, b.expires_at, t.label, t.dek_id, t.erased_at, encode(t.subject, 'hex'), t.store, t.kek,
        t.kek_version,
        CASE WHEN t.store = 'vault' THEN 'dead everywhere' WHEN t.kek_version < k.oldest THEN 'dead in the KMS'
            ELSE 'can be revived' END,
        CASE WHEN t.store = 'vault' THEN 'the backup holds no wrapped key; a snapshot of the KMS from before would'
            WHEN t.kek_version < k.oldest THEN 'the KEK version that wrapped it does not open any more'
            ELSE format('CALL envelope.rotate_kek(%L); then SELECT * FROM envelope.kek_versions(%1$L) says which databases must '
                'rewrap before min_decryption_version of the KEK may be set above %s in the KMS%s',
                t.kek, coalesce(t.kek_version::text, 'the version of then'),
                coalesce('; or wait until ' || b.expires_at, '')) END
    FROM envelope_private.backup b
    JOIN envelope_private.tombstone t
        ON t.erased_at > b.taken_at AND coalesce(t.made_at, '-infinity') <= b.finished_at
    LEFT JOIN kms k USING (kek)
    WHERE coalesce(b.expires_at, 'infinity') > now() AND b.forgotten_at IS NULL
    ORDER BY b.taken_at, t.erased_at, t.dek_id;
END;
COMMENT ON FUNCTION envelope.shred_audit IS
    'one row for each registered backup and each erased key that it still holds. A person with the backup and the KMS could revive such a key, until the time shown';
