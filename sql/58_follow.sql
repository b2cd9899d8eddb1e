-- What people do to a protected table by plain DDL, taken over at once: columns renamed through the view, grants, another
-- owner, defaults, triggers that a write has to run as its caller.

CREATE FUNCTION envelope_private.follow(view oid, touched oid, attnum int) RETURNS void
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.follow(view, touched, attnum)
$$;
COMMENT ON FUNCTION envelope_private.follow IS
    'brings base table, view and triggers in step after DDL. SECURITY DEFINER: it changes what belongs to the extension''s owner';

CREATE FUNCTION envelope_private.always_fires() RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    -- No dump says that a view's trigger fires always (see tables/build.py), and pg_restore --disable-triggers enables a
    -- guard as an ordinary trigger. A restore may bring the key catalog later: the names must do. A guard with a WHEN
    -- looks only at what is written past the view, and leaves replication alone.
    WITH touched AS (
        SELECT objid, classid FROM pg_event_trigger_ddl_commands()
    ), set_right AS (
        UPDATE pg_trigger t SET tgenabled = CASE WHEN tgtype::int & 64 <> 0 THEN 't' ELSE 'A' END
        WHERE tgenabled = 'O' AND (
            oid IN (SELECT objid FROM touched WHERE classid = 'pg_trigger'::regclass)
                AND tgname IN ('envelope_insert', 'envelope_update') AND tgtype::int & 64 <> 0
            OR tgrelid IN (SELECT objid FROM touched WHERE classid = 'pg_class'::regclass)
                AND tgname LIKE '~envelope\_guard\_%' AND tgqual IS NULL)
        RETURNING tgrelid)
    -- So that every session looks again.
    UPDATE pg_class SET relhastriggers = relhastriggers WHERE oid IN (SELECT tgrelid FROM set_right);
END;
COMMENT ON FUNCTION envelope_private.always_fires IS
    'triggers of protected tables that a DDL command made or enabled fire under every session_replication_role';

CREATE FUNCTION envelope_private.ddl_followed() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found record;
BEGIN
    PERFORM envelope_private.always_fires();
    -- A dump says so; it brings everything in step by itself, and in an order of its own.
    IF current_setting('check_function_bodies') = 'off' THEN
        RETURN;
    END IF;
    FOR found IN
        SELECT DISTINCT k.view::oid AS view, coalesce(c.relation, 0) AS relation, coalesce(c.attnum, 0) AS attnum
        FROM envelope_private.key k JOIN pg_class b ON b.oid = k.base JOIN pg_class v ON v.oid = k.view
        LEFT JOIN (
            SELECT coalesce(t.tgrelid, i.indrelid, d.objid) AS relation, d.objsubid AS attnum
            FROM pg_event_trigger_ddl_commands() d
            LEFT JOIN pg_trigger t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
            LEFT JOIN pg_index i ON d.classid = 'pg_class'::regclass AND i.indexrelid = d.objid
            WHERE d.classid IN ('pg_class'::regclass, 'pg_trigger'::regclass)
            UNION ALL
            SELECT i.inhparent, 0 FROM pg_event_trigger_ddl_commands() d JOIN pg_inherits i ON i.inhrelid = d.objid
            WHERE d.classid = 'pg_class'::regclass) c ON c.relation IN (k.view, k.base)
        WHERE c.relation IS NOT NULL OR TG_TAG IN ('GRANT', 'REVOKE') AND k.as_caller
    LOOP
        PERFORM envelope_private.follow(found.view, found.relation, found.attnum);
    END LOOP;
END $$;
COMMENT ON FUNCTION envelope_private.ddl_followed IS
    'event trigger: finds the protected tables that a command touched. SECURITY DEFINER: reads the key catalog';

CREATE EVENT TRIGGER pg_envelope_follow ON ddl_command_end
    WHEN TAG IN ('ALTER TABLE', 'ALTER VIEW', 'CREATE TABLE', 'CREATE TRIGGER', 'ALTER TRIGGER', 'CREATE INDEX', 'GRANT',
        'REVOKE')
    EXECUTE FUNCTION envelope_private.ddl_followed();
COMMENT ON EVENT TRIGGER pg_envelope_follow IS 'pg_envelope: keeps protected tables in step with plain DDL';

CREATE FUNCTION envelope_private.types_begin() RETURNS void
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.types_begin()
$$;
COMMENT ON FUNCTION envelope_private.types_begin IS 'keeps in mind what the types of protected values are made of';

CREATE FUNCTION envelope_private.types_end() RETURNS void
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.types_end()
$$;
COMMENT ON FUNCTION envelope_private.types_end IS 'refuses what the texts of protected values would not survive';

CREATE FUNCTION envelope_private.types_kept() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM envelope_private.protected_table) THEN
        RETURN;
    ELSIF TG_EVENT = 'ddl_command_start' THEN
        PERFORM envelope_private.types_begin();
    ELSE
        PERFORM envelope_private.types_end();
    END IF;
END $$;
COMMENT ON FUNCTION envelope_private.types_kept IS
    'event trigger: a type of protected values changes. SECURITY DEFINER: reads the key catalog';

CREATE EVENT TRIGGER pg_envelope_types_begin ON ddl_command_start WHEN TAG IN ('ALTER TYPE', 'ALTER DOMAIN')
    EXECUTE FUNCTION envelope_private.types_kept();
COMMENT ON EVENT TRIGGER pg_envelope_types_begin IS 'pg_envelope: what the types of protected values are before a change';
CREATE EVENT TRIGGER pg_envelope_types_end ON ddl_command_end WHEN TAG IN ('ALTER TYPE', 'ALTER DOMAIN')
    EXECUTE FUNCTION envelope_private.types_kept();
COMMENT ON EVENT TRIGGER pg_envelope_types_end IS 'pg_envelope: values stay readable after a change of their types';

-- Loaders set session_replication_role, and what they change must not make values unreadable either.
ALTER EVENT TRIGGER pg_envelope_follow ENABLE ALWAYS;
ALTER EVENT TRIGGER pg_envelope_types_begin ENABLE ALWAYS;
ALTER EVENT TRIGGER pg_envelope_types_end ENABLE ALWAYS;
