-- Takes plain DDL on a protected table over at once: columns renamed through the view, grants, another
-- owner, defaults, and triggers that a write has to run as its caller.

CREATE FUNCTION envelope_private.follow(view oid, touched oid, attnum int) RETURNS void
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.ddl.follow(view, touched, attnum)
$$;
COMMENT ON FUNCTION envelope_private.follow IS
    'brings base table, view and triggers in step after DDL. SECURITY DEFINER: it changes objects of the extension''s owner';

-- plpgsql keeps the plan for the session: many DDL commands call this.
CREATE FUNCTION envelope_private.always_fires() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- No dump says that a view's trigger fires always (see tables/build.py), and pg_restore --disable-triggers enables
    -- a guard as an ordinary trigger. A restore may bring the key catalog later, so triggers are known by their names.
    -- A guard with a WHEN looks only at what is written past the view, and leaves replication alone.
    WITH touched AS (
        SELECT objid, classid FROM pg_event_trigger_ddl_commands()
    ), set_right AS (
        UPDATE pg_trigger t SET tgenabled = CASE WHEN tgtype::int & 64 <> 0 THEN 't' ELSE 'A' END
        WHERE tgenabled = 'O' AND (
            oid IN (SELECT objid FROM touched WHERE classid = 'pg_trigger'::regclass)
                AND tgname IN ('envelope_insert', 'envelope_update') AND tgtype::int & 64 <> 0
            OR tgrelid IN (SELECT objid FROM touched WHERE classid = 'pg_class'::regclass)
                AND (tgname LIKE '~envelope\_guard\_%' AND tgqual IS NULL
                    -- Triggers of the key catalog: see 43_publications.sql.
                    OR tgname IN ('complete', 'renew_seal', 'seal_changed')
                        AND tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'envelope_private'::regnamespace)))
        RETURNING tgrelid)
    -- This makes every session look at the triggers again.
    UPDATE pg_class SET relhastriggers = relhastriggers WHERE oid IN (SELECT tgrelid FROM set_right);
END $$;
COMMENT ON FUNCTION envelope_private.always_fires IS
    'makes triggers of protected tables that a DDL command made or enabled fire under every session_replication_role';

CREATE FUNCTION envelope_private.is_ours(made xid) RETURNS boolean
    LANGUAGE sql
RETURN CASE WHEN pg_catalog.age(made) OPERATOR(pg_catalog.<=) pg_catalog.age(pg_catalog.pg_current_xact_id()::xid) THEN
    -- A row that we see is of a transaction that has ended, or of our own and its subtransactions.
    pg_catalog.pg_xact_status((pg_catalog.pg_current_xact_id()::text::bigint
        + pg_catalog.age(pg_catalog.pg_current_xact_id()::xid) - pg_catalog.age(made))::text::xid8) = 'in progress'
    ELSE false END;
COMMENT ON FUNCTION envelope_private.is_ours IS
    'whether this transaction made a row that the caller sees: the argument is its xmin';

CREATE FUNCTION envelope_private.ddl_followed() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found record;
    context text;
BEGIN
    IF TG_TAG IN ('GRANT', 'REVOKE')
            AND NOT EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE object_type = 'TABLE') THEN
        RETURN;
    END IF;
    PERFORM envelope_private.always_fires();
    GET DIAGNOSTICS context = PG_CONTEXT;
    -- A dump sets this; it brings everything in step by itself, and in an order of its own.
    IF current_setting('check_function_bodies') = 'off' THEN
        RETURN;
    -- This saves time, because a call of protect runs fifty commands. The package follows none of them anyway. Without
    -- the first condition, each DDL command of a session would start Python.
    ELSIF strpos(context, 'PL/Python') > 0 AND envelope_internal.changes_tables() THEN
        RETURN;
    END IF;
    FOR found IN
        SELECT DISTINCT k.view::oid AS view, coalesce(c.relation, 0) AS relation, coalesce(c.attnum, 0) AS attnum
        FROM envelope_private.key k JOIN pg_class b ON b.oid = k.base JOIN pg_class v ON v.oid = k.view
        LEFT JOIN (
            WITH touched AS (
                SELECT coalesce(t.tgrelid, i.indrelid, d.objid) AS relation, d.objsubid AS attnum
                FROM pg_event_trigger_ddl_commands() d
                LEFT JOIN pg_trigger t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
                LEFT JOIN pg_index i ON d.classid = 'pg_class'::regclass AND i.indexrelid = d.objid
                WHERE d.classid IN ('pg_class'::regclass, 'pg_trigger'::regclass))
            SELECT relation, attnum FROM touched
            UNION ALL
            SELECT inhparent, 0 FROM touched JOIN pg_inherits ON inhrelid = relation
            UNION ALL
            SELECT pg_partition_root(relation), 0 FROM touched WHERE pg_partition_root(relation) <> relation) c ON c.relation IN (k.view, k.base)
        -- While a base table has the name of its view, sql/59_exchange.sql brings them in step at the end.
        -- A GRANT does not tell which tables it names. To look at those of others would be to wait for their DDL.
        WHERE (c.relation IS NOT NULL OR TG_TAG IN ('GRANT', 'REVOKE') AND (envelope_private.is_ours(v.xmin) OR EXISTS (
                SELECT FROM pg_attribute a WHERE a.attrelid = k.view AND envelope_private.is_ours(a.xmin))))
            AND NOT EXISTS (SELECT FROM envelope_private.exchange e WHERE e.base = k.base)
    LOOP
        PERFORM envelope_private.follow(found.view, found.relation, found.attnum);
    END LOOP;
END $$;
COMMENT ON FUNCTION envelope_private.ddl_followed IS
    'event trigger: finds the protected tables that a command touched. SECURITY DEFINER: reads the key catalog';

CREATE EVENT TRIGGER pg_envelope_follow ON ddl_command_end
    WHEN TAG IN ('ALTER TABLE', 'ALTER VIEW', 'CREATE TABLE', 'CREATE FOREIGN TABLE', 'CREATE TRIGGER', 'ALTER TRIGGER',
        'CREATE INDEX', 'GRANT', 'REVOKE')
    EXECUTE FUNCTION envelope_private.ddl_followed();
COMMENT ON EVENT TRIGGER pg_envelope_follow IS 'pg_envelope: keeps protected tables in step with plain DDL';

-- Types of protected tables: a change after which a value could not be read is refused.

CREATE FUNCTION envelope_private.type_changing() RETURNS void
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.ddl.type_changing()
$$;
COMMENT ON FUNCTION envelope_private.type_changing IS
    'remembers the labels of enums before a command. SECURITY DEFINER: it calls functions of the extension''s owner';

CREATE FUNCTION envelope_private.type_changed(view oid, type oid) RETURNS void
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.ddl.type_changed(view, type)
$$;
COMMENT ON FUNCTION envelope_private.type_changed IS
    'refuses a change of a type after which values of a protected table could not be read. SECURITY DEFINER: reads the table as its owner';

CREATE FUNCTION envelope_private.ddl_of_types() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found record;
BEGIN
    IF NOT EXISTS (SELECT FROM envelope_private.key) THEN
        RETURN;
    ELSIF TG_EVENT = 'ddl_command_start' THEN
        PERFORM envelope_private.type_changing();
        RETURN;
    -- The package alters its own domain in each roll-out, behind a lock. No column of a view has that type.
    ELSIF NOT EXISTS (SELECT FROM pg_event_trigger_ddl_commands()
            WHERE classid <> 'pg_type'::regclass OR objid <> 'envelope.ciphertext'::regtype) THEN
        RETURN;
    END IF;
    FOR found IN
        SELECT DISTINCT k.view, d.type
        FROM (
            -- PostgreSQL reports a composite type as a relation.
            SELECT coalesce(c.reltype, t.oid) AS type FROM pg_event_trigger_ddl_commands() e
            LEFT JOIN pg_class c ON e.classid = 'pg_class'::regclass AND c.oid = e.objid
            LEFT JOIN pg_type t ON e.classid = 'pg_type'::regclass AND t.oid = e.objid) d, envelope_private.protected_table k
        JOIN pg_attribute a ON a.attrelid = k.view AND a.attnum > 0
        LEFT JOIN envelope_private.protected_column p ON p.key_uuid = k.key_uuid AND p.attname = a.attname
        WHERE (p.attname IS NOT NULL OR a.attname = ANY (k.row_key) OR a.attname = k.scope_column)
            AND d.type IN (SELECT envelope_private.type_parts(a.atttypid))
    LOOP
        PERFORM envelope_private.type_changed(found.view, found.type);
    END LOOP;
END $$;
COMMENT ON FUNCTION envelope_private.ddl_of_types IS
    'event trigger: finds the protected tables whose values have a type that was changed. SECURITY DEFINER: reads the key catalog';

CREATE EVENT TRIGGER pg_envelope_type_changing ON ddl_command_start
    WHEN TAG IN ('ALTER TYPE') EXECUTE FUNCTION envelope_private.ddl_of_types();
COMMENT ON EVENT TRIGGER pg_envelope_type_changing IS 'pg_envelope: remembers the labels of enums before a command changes a type';
CREATE EVENT TRIGGER pg_envelope_type_changed ON ddl_command_end
    WHEN TAG IN ('ALTER TYPE', 'ALTER DOMAIN') EXECUTE FUNCTION envelope_private.ddl_of_types();
COMMENT ON EVENT TRIGGER pg_envelope_type_changed IS 'pg_envelope: refuses a change of a type that would make values unreadable';

-- Loaders set session_replication_role, and their changes must not make values unreadable either.
ALTER EVENT TRIGGER pg_envelope_follow ENABLE ALWAYS;
ALTER EVENT TRIGGER pg_envelope_type_changing ENABLE ALWAYS;
ALTER EVENT TRIGGER pg_envelope_type_changed ENABLE ALWAYS;
