-- The message counters, FORMAT.md section 1.4: a sequence for each field, or for each key in tenant and subject scope,
-- that counts blocks of 64 messages. They are not members of the extension, so a dump has them with their values. A
-- column owns each of them, so DROP EXTENSION drops them, too.

CREATE FUNCTION envelope_private.counter_name(counted uuid) RETURNS text
    LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT 'envelope_private.messages_' || replace(counted::text, '-', '');
END;
COMMENT ON FUNCTION envelope_private.counter_name IS
    'the message counter of a field, or of a key in tenant and subject scope';

CREATE FUNCTION envelope_private.count_from(counted uuid) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    counter text := envelope_private.counter_name(counted);
    grantee text;
BEGIN
    IF to_regclass(counter) IS NULL THEN
        PERFORM pg_advisory_xact_lock(hashtextextended(counter, 0));
        EXECUTE format('CREATE SEQUENCE IF NOT EXISTS %s OWNED BY envelope_private.field.field_uuid', counter);
        FOR grantee IN
            SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
            FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = counter::regclass AND a.grantee <> c.relowner
        LOOP
            EXECUTE format('REVOKE ALL ON SEQUENCE %s FROM %s', counter, grantee);
        END LOOP;
        PERFORM envelope_private.allow_dump(counter);
    END IF;
    RETURN coalesce(pg_sequence_last_value(counter::regclass), 0);
END $$;
COMMENT ON FUNCTION envelope_private.count_from IS
    'the value of a message counter, from which a new key is counted; makes the counter if need be. SECURITY DEFINER: the sequence has the table''s owner';

-- nextval() would not do: lastval() would then show the application a number that is not of its row.
CREATE FUNCTION envelope_private.draw(counter regclass, numbers bigint) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    reached bigint;
BEGIN
    BEGIN
        PERFORM pg_advisory_xact_lock(counter::oid::bigint);
        reached := setval(counter, coalesce(pg_sequence_last_value(counter), 0) + numbers);
        -- That undoes nothing but the lock, because a sequence is not turned back.
        RAISE SQLSTATE 'ENV00';
    EXCEPTION WHEN SQLSTATE 'ENV00' THEN
        RETURN reached;
    END;
END $$;
COMMENT ON FUNCTION envelope_private.draw IS
    'draws new numbers of a sequence of the extension, and returns the last; leaves lastval() as it is';
CREATE FUNCTION envelope_private.mend_counter(counted uuid, blocks bigint) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    counter text := envelope_private.counter_name(counted);
    newest bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(counter, 0));
    PERFORM envelope_private.count_from(counted);
    SELECT max(fk.counted_from) INTO newest
    FROM envelope_private.field_key fk JOIN envelope_private.dek d USING (dek_id)
    WHERE fk.field_uuid = counted OR fk.field_uuid IS NULL AND d.key_uuid = counted;
    IF coalesce(pg_sequence_last_value(counter::regclass), 0) <= coalesce(newest, 0) THEN
        PERFORM setval(counter::regclass, coalesce(newest, 0) + blocks);
    END IF;
END $$;
COMMENT ON FUNCTION envelope_private.mend_counter IS
    'moves a message counter that is missing or behind, so far that each earlier key is renewed at its next write: nobody knows how much these keys have sealed';

CREATE FUNCTION envelope.mend_sequences() RETURNS bigint
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.backups.mend_sequences()
$$;
COMMENT ON FUNCTION envelope.mend_sequences IS
    'for a subscriber, because logical replication copies no sequences: brings ids and message counters up to the key catalog; returns how many were behind';

-- The keys of tenants and subjects share a counter. The oldest key's count stands for all.
CREATE VIEW envelope_private.budget AS
    SELECT coalesce(n.name, coalesce(n.view::text, n.base::text) || coalesce('.' || f.attname, '')) AS label,
        c.counter IS NULL OR coalesce(pg_sequence_last_value(c.counter), 0) < u.newest AS lost,
        greatest(0, coalesce(pg_sequence_last_value(c.counter), 0) - u.counted_from) * 64 AS messages,
        coalesce(u.field_uuid, u.key_uuid) AS counted
    FROM (
        SELECT fk.field_uuid, d.key_uuid, min(fk.counted_from) AS counted_from, max(fk.counted_from) AS newest
        FROM envelope_private.field_key fk JOIN envelope_private.dek d USING (dek_id)
        WHERE fk.state = 'active' AND d.state = 'active' GROUP BY fk.field_uuid, d.key_uuid) u
    JOIN envelope_private.key n USING (key_uuid)
    LEFT JOIN envelope_private.field f USING (field_uuid),
    LATERAL (SELECT to_regclass(envelope_private.counter_name(coalesce(u.field_uuid, u.key_uuid))) AS counter) c
    WHERE coalesce(f.suite, 1) NOT IN (2, 4);
COMMENT ON VIEW envelope_private.budget IS 'the active keys whose messages are counted, each with the most messages that it can have sealed';
