-- DDL on a protected table's own name. Before such a command the base table takes the name of its view, and afterwards
-- both have their names back, and the view follows the change. Which tables a command names is read from its text. The
-- text decides nothing else: only who owns a table, or may refer to it, can make it exchange names.

CREATE FUNCTION envelope_private.still_exchanged() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM envelope_private.exchange WHERE base = NEW.base) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_transaction_termination',
            MESSAGE = format('%s has the name of its view: the transaction cannot end here', NEW.base::regclass),
            HINT = 'After envelope.begin_ddl(...) call envelope.end_ddl(). A command that commits by itself must name the base table.';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION envelope_private.still_exchanged IS
    'refuses the commit while a base table has the name of its view, so no other session ever meets envelopes under that name. SECURITY DEFINER: reads the key catalog';

CREATE CONSTRAINT TRIGGER still_exchanged AFTER INSERT ON envelope_private.exchange
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION envelope_private.still_exchanged();
ALTER TABLE envelope_private.exchange ENABLE ALWAYS TRIGGER still_exchanged;

CREATE FUNCTION envelope_private.folded(words text) RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN lower(lower(words COLLATE "C") COLLATE "default");
COMMENT ON FUNCTION envelope_private.folded IS
    'names as the parser folds them when nobody quotes them: A to Z in every locale, and the other letters as some encodings have it';

-- plpgsql keeps the plan for the session: every DDL command asks this.
CREATE FUNCTION envelope_internal.names_protected(context text) RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    command text;
BEGIN
    IF EXISTS (SELECT FROM envelope_private.exchange) THEN
        RETURN true;
    -- A dump sets this. It names every relation as it is.
    ELSIF current_setting('check_function_bodies') = 'off' OR NOT EXISTS (SELECT FROM envelope_private.key) THEN
        RETURN false;
    END IF;
    command := envelope_private.folded(replace(concat(context, current_query()), '""', '"'));
    -- A partition may be named by a table between it and the protected one.
    RETURN strpos(command, 'detach') > 0 OR EXISTS (SELECT FROM envelope_private.key k JOIN pg_class v ON v.oid = k.view
        WHERE strpos(command, envelope_private.folded(v.relname::text)) > 0);
END $$;
COMMENT ON FUNCTION envelope_internal.names_protected IS
    'whether the running command may name a protected table: the cheap question before the exact one. context: the functions that run it. SECURITY DEFINER: reads the key catalog';

CREATE FUNCTION envelope_internal.begin_command(tag text, context text) RETURNS void
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.ddl.begin_command(tag, context)
$$;
COMMENT ON FUNCTION envelope_internal.begin_command IS
    'exchanges the names of the protected tables that the running command changes. With the rights and the search_path of who gave the command';

CREATE FUNCTION envelope_internal.changes_tables() RETURNS boolean
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
return 'pg_envelope' in GD and GD['pg_envelope'].changes_tables
$$;
COMMENT ON FUNCTION envelope_internal.changes_tables IS
    'whether the package itself is changing a table in this session: its own steps keep views and base tables in step. It loads nothing';

-- No SET: the names in the command mean what they mean under the search_path of its session. To ask changes_tables()
-- saves time, because a call of protect() runs fifty commands. The package exchanges no names for them anyway. It is
-- asked only where Python runs already.
CREATE FUNCTION envelope_internal.ddl_begins() RETURNS event_trigger
    LANGUAGE plpgsql AS $$
DECLARE
    context pg_catalog.text;
BEGIN
    GET DIAGNOSTICS context = PG_CONTEXT;
    IF pg_catalog.strpos(context, 'PL/Python') OPERATOR(pg_catalog.>) 0 AND envelope_internal.changes_tables() THEN
        RETURN;
    ELSIF envelope_internal.names_protected(context) THEN
        PERFORM envelope_internal.begin_command(TG_TAG, context);
    END IF;
END $$;
COMMENT ON FUNCTION envelope_internal.ddl_begins IS 'event trigger: a command begins that may change a protected table';

CREATE FUNCTION envelope_private.end_command() RETURNS void
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.ddl.end_command()
$$;
COMMENT ON FUNCTION envelope_private.end_command IS
    'gives names back, and makes the views follow. SECURITY DEFINER: it changes objects of the extension''s owner';

CREATE FUNCTION envelope_private.ddl_ends() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM envelope_private.exchange) THEN
        PERFORM envelope_private.end_command();
    END IF;
END $$;
COMMENT ON FUNCTION envelope_private.ddl_ends IS 'event trigger: a command has ended. SECURITY DEFINER: reads the key catalog';

CREATE EVENT TRIGGER pg_envelope_begin_ddl ON ddl_command_start
    WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'DROP TABLE', 'CREATE INDEX', 'COMMENT', 'CREATE TRIGGER', 'ALTER TRIGGER',
        'DROP TRIGGER', 'CREATE POLICY', 'ALTER POLICY', 'DROP POLICY', 'CREATE STATISTICS')
    EXECUTE FUNCTION envelope_internal.ddl_begins();
COMMENT ON EVENT TRIGGER pg_envelope_begin_ddl IS 'pg_envelope: lets a DDL command name a protected table';
-- In the order of names it comes before pg_envelope_follow, which finds every name in its place.
CREATE EVENT TRIGGER pg_envelope_end_ddl ON ddl_command_end
    WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'DROP TABLE', 'CREATE INDEX', 'COMMENT', 'CREATE TRIGGER', 'ALTER TRIGGER',
        'DROP TRIGGER', 'CREATE POLICY', 'ALTER POLICY', 'DROP POLICY', 'CREATE STATISTICS')
    EXECUTE FUNCTION envelope_private.ddl_ends();
COMMENT ON EVENT TRIGGER pg_envelope_end_ddl IS 'pg_envelope: ends what pg_envelope_begin_ddl began';

CREATE FUNCTION envelope.begin_ddl(rel regclass) RETURNS void
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.ddl.begin_ddl(rel)
$$;
COMMENT ON FUNCTION envelope.begin_ddl IS
    'gives the name of a protected table to its base table, until envelope.end_ddl() in the same transaction. For its owner, and for DDL that pg_envelope does not see by itself';

CREATE FUNCTION envelope.end_ddl() RETURNS void
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.ddl.end_command()
$$;
COMMENT ON FUNCTION envelope.end_ddl IS
    'ends what envelope.begin_ddl() began in this transaction: names are back, and the views follow the change. SECURITY DEFINER: it changes objects of the extension''s owner';
