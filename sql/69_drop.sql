-- DROP EXTENSION would destroy the only copy of the keys. It is refused while there are keys. A member of the extension
-- cannot refuse: when the event sql_drop fires, the members are gone already. So a command that may drop the extension
-- gets a guard that is no member. The guard is made as the command starts, and removed as it ends.

CREATE FUNCTION envelope_private.guard() RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT 'pg_envelope_guard_' || pg_backend_pid();
END;
COMMENT ON FUNCTION envelope_private.guard IS 'the name of this session''s guard: an event trigger, and its function';

CREATE FUNCTION envelope_private.keys_at_stake() RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT format('%s DEKs of %s keys: %s', sum(n.deks), count(*), string_agg(n.label, ', ' ORDER BY n.label)
            FILTER (WHERE n.place <= 10) || CASE WHEN count(*) > 10 THEN ', ...' ELSE '' END)
    FROM (
        SELECT k.label, count(*) AS deks, row_number() OVER (ORDER BY k.label) AS place
        FROM envelope_private.dek d
        LEFT JOIN LATERAL (
            SELECT coalesce(k.name, t.oid::regclass::text, '(of a table that is gone, or plain again)') AS label
            FROM envelope_private.key k LEFT JOIN pg_class t ON t.oid = coalesce(k.view, k.base)
            WHERE k.key_uuid = d.key_uuid) k ON true
        WHERE d.state <> 'destroyed' GROUP BY d.key_uuid, k.label) n
    HAVING count(*) > 0;
END;
COMMENT ON FUNCTION envelope_private.keys_at_stake IS 'the keys that the catalog holds, in words; NULL when no key is alive';

CREATE FUNCTION envelope_private.raise_guard() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    lost text := envelope_private.keys_at_stake();
BEGIN
    IF lost IS NULL THEN
        -- It waits for a session that is making the first key: otherwise the command would wait, and then drop that
        -- key.
        LOCK TABLE envelope_private.dek IN SHARE MODE;
        lost := envelope_private.keys_at_stake();
    END IF;
    IF lost IS NULL OR EXISTS (SELECT FROM pg_event_trigger WHERE evtname = envelope_private.guard()) THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE FUNCTION pg_catalog.%I() RETURNS event_trigger LANGUAGE plpgsql '
        'SET search_path = pg_catalog, pg_temp AS %L', envelope_private.guard(), format(
        'BEGIN IF EXISTS (SELECT FROM pg_event_trigger_dropped_objects()
            WHERE object_type = ''extension'' AND object_name = ''pg_envelope'') THEN
            RAISE EXCEPTION USING ERRCODE = ''dependent_objects_still_exist'',
                MESSAGE = ''cannot drop the extension pg_envelope while it holds keys'', DETAIL = %L, HINT = %L;
        END IF; END', lost || '. Without them nothing that they encrypted can be read again.',
        'What you still need: CALL envelope.unprotect(...), or decrypt it. Then SELECT envelope.forget_all_keys() '
        'says what it would destroy.'));
    EXECUTE format('CREATE EVENT TRIGGER %1$I ON sql_drop EXECUTE FUNCTION pg_catalog.%1$I()', envelope_private.guard());
    EXECUTE format('ALTER EVENT TRIGGER %I ENABLE ALWAYS', envelope_private.guard());
    -- It belongs to the role that no DROP OWNED can name: the extension's owner may be another role.
    EXECUTE format('ALTER EVENT TRIGGER %I OWNER TO %s', envelope_private.guard(), 10::oid::regrole);
    EXECUTE format('ALTER FUNCTION pg_catalog.%I() OWNER TO %s', envelope_private.guard(), 10::oid::regrole);
END $$;
COMMENT ON FUNCTION envelope_private.raise_guard IS
    'makes a guard that outlives the extension, before a command that could drop the extension. SECURITY DEFINER: makes an event trigger';

CREATE FUNCTION envelope_private.lower_guard() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_event_trigger WHERE evtname = envelope_private.guard()) THEN
        EXECUTE format('DROP EVENT TRIGGER %I', envelope_private.guard());
        EXECUTE format('DROP FUNCTION pg_catalog.%I()', envelope_private.guard());
    END IF;
END $$;
COMMENT ON FUNCTION envelope_private.lower_guard IS
    'removes the guard after a command that dropped something else. SECURITY DEFINER: drops an event trigger';

CREATE EVENT TRIGGER pg_envelope_raise_guard ON ddl_command_start
    WHEN TAG IN ('DROP EXTENSION', 'DROP SCHEMA', 'DROP OWNED')
    EXECUTE FUNCTION envelope_private.raise_guard();
CREATE EVENT TRIGGER pg_envelope_lower_guard ON ddl_command_end
    WHEN TAG IN ('DROP EXTENSION', 'DROP SCHEMA', 'DROP OWNED')
    EXECUTE FUNCTION envelope_private.lower_guard();
ALTER EVENT TRIGGER pg_envelope_raise_guard ENABLE ALWAYS;
ALTER EVENT TRIGGER pg_envelope_lower_guard ENABLE ALWAYS;

CREATE FUNCTION envelope.forget_all_keys(database name DEFAULT NULL) RETURNS bigint
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.erasure.forget_all_keys(database)
$$;
COMMENT ON FUNCTION envelope.forget_all_keys IS
    'deletes all keys of this database from the key catalog, before DROP EXTENSION. Values under them cannot be read again here. It needs the database''s name; without the name it lists the keys. Returns how many DEKs it deleted';

CREATE FUNCTION envelope_private.forget_all_keys() RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT envelope_private.drop_seals(key_uuid) FROM envelope_private.key;
    UPDATE envelope_private.key SET name = NULL, base = NULL, view = NULL;
    DELETE FROM envelope_private.secret;
    DELETE FROM envelope_private.key_grant;
    DELETE FROM envelope_private.client_grant;
    DELETE FROM envelope_private.mask;
    DELETE FROM envelope_private.canary;
    DELETE FROM envelope_private.tenant;
    DELETE FROM envelope_private.spare_dek;
    DELETE FROM envelope_private.search_key;
    DELETE FROM envelope_private.search;
    DELETE FROM envelope_private.carried;
    DELETE FROM envelope_private.field_key;
    DELETE FROM envelope_private.dek;
    DELETE FROM envelope_private.field;
    DELETE FROM envelope_private.key;
END;
COMMENT ON FUNCTION envelope_private.forget_all_keys IS 'empties the key catalog';
