-- A session may keep what it knows of a role's rights until it hears of a change. PostgreSQL tells all sessions of changes
-- of its own catalogs. These triggers tell of the key catalog by the same messages, which are sent with the commit.
CREATE FUNCTION envelope_private.tell_sessions() RETURNS trigger
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
import ctypes
ctypes.PyDLL(None).CacheInvalidateRelcacheByRelid(ctypes.c_uint32(int(TD["relid"])))
$$;
COMMENT ON FUNCTION envelope_private.tell_sessions IS
    'tells all sessions, with the commit, that a table of the key catalog has changed, on which rights depend';

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY '{key, field, capability, key_grant, mask, search_key}'::text[] LOOP
        EXECUTE format('CREATE TRIGGER tell_sessions AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON envelope_private.%I'
            ' FOR EACH STATEMENT EXECUTE FUNCTION envelope_private.tell_sessions()', name);
        EXECUTE format('ALTER TABLE envelope_private.%I ENABLE ALWAYS TRIGGER tell_sessions', name);
    END LOOP;
END $$;
