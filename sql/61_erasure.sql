-- Erasure: keys are destroyed for good, and what a restored backup brings back dies again. Signed statements.

CREATE FUNCTION envelope.signing_keys() RETURNS TABLE (version integer, state text, public_key text)
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope.bootstrap()')
return GD['pg_envelope'].admin.signing_keys()
$$;
COMMENT ON FUNCTION envelope.signing_keys IS
    'the public keys (Ed25519, base64) of this database''s receipts, one row per version of the key ''pg_envelope receipts''';

-- Procedures commit, hence neither SECURITY DEFINER nor SET; they need a superuser and pin the search_path.

CREATE PROCEDURE envelope.shred(rel regclass, subject text DEFAULT NULL, reason text DEFAULT '')
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope.bootstrap()')
GD['pg_envelope'].admin.shred(rel, subject, reason)
$$;
COMMENT ON PROCEDURE envelope.shred IS
    'destroys all key versions of a tenant or subject, or of a whole table, for good: what they encrypted is erased. It needs a reason. Not inside a transaction';

CREATE PROCEDURE envelope.shred_key(name text, reason text DEFAULT '')
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope.bootstrap()')
GD['pg_envelope'].admin.shred_key(name, reason)
$$;
COMMENT ON PROCEDURE envelope.shred_key IS
    'destroys all versions of a named key for good: what they encrypted is erased. It needs a reason. Not inside a transaction';

CREATE FUNCTION envelope.replay_erasures()
    RETURNS TABLE (ledger_lines bigint, erased bigint, destroyed_again bigint, told_broker bigint)
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope.bootstrap()')
return GD['pg_envelope'].admin.replay_erasures()
$$;
COMMENT ON FUNCTION envelope.replay_erasures IS
    'after a restore: carries out again what the broker''s ledger says was erased, once chain and signature are verified; one row of counts';

CREATE FUNCTION envelope.register_backup(
    label text, taken_at timestamptz DEFAULT now(), expires_at timestamptz DEFAULT NULL) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO envelope_private.backup (label, taken_at, expires_at)
        VALUES ($1, register_backup.taken_at, register_backup.expires_at)
        ON CONFLICT ON CONSTRAINT backup_pkey
        DO UPDATE SET taken_at = excluded.taken_at, expires_at = excluded.expires_at, registered_at = now();
END;
COMMENT ON FUNCTION envelope.register_backup IS
    'says that there is a backup of this database, so that shred_audit() and retire() count with it; again: changes it';

CREATE FUNCTION envelope.forget_backup(label text) RETURNS boolean
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH gone AS (DELETE FROM envelope_private.backup b WHERE b.label = $1 RETURNING 1)
    SELECT EXISTS (SELECT FROM gone);
END;
COMMENT ON FUNCTION envelope.forget_backup IS 'says that a backup was destroyed; false when none of this label is known';

CREATE FUNCTION envelope.shred_audit()
    RETURNS TABLE (backup text, taken_at timestamptz, expires_at timestamptz, erased text, dek_id bigint,
        erased_at timestamptz, subject text, store text, kek text, kek_version integer, state text, hint text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT b.label, b.taken_at, b.expires_at, t.label, t.dek_id, t.erased_at, encode(t.subject, 'hex'), t.store, t.kek,
        t.kek_version,
        CASE t.store WHEN 'vault' THEN 'dead everywhere' ELSE 'can be revived' END,
        CASE t.store WHEN 'vault' THEN 'the backup holds no wrapped key; a snapshot of the KMS from before would'
            ELSE format('CALL envelope.rotate_kek(%L), then set min_decryption_version of the KEK above %s in the KMS%s',
                t.kek, coalesce(t.kek_version::text, 'the version of then'),
                coalesce('; or wait until ' || b.expires_at, '')) END
    FROM envelope_private.backup b
    JOIN envelope_private.tombstone t
        ON t.erased_at > b.taken_at AND coalesce(t.made_at, '-infinity') <= b.taken_at
    WHERE coalesce(b.expires_at, 'infinity') > now()
    ORDER BY b.taken_at, t.erased_at, t.dek_id;
END;
COMMENT ON FUNCTION envelope.shred_audit IS
    'one row per registered backup and erased key that it still holds: whoever has backup and KMS could revive it, and until when';
