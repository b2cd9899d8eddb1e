-- The rows that an erasure would reach, for the question that `pg-envelope shred` asks.

CREATE FUNCTION envelope_private.affected(rel regclass, subject text DEFAULT NULL)
    RETURNS TABLE (relation text, row_count bigint)
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.erasure.affected(rel, subject)
$$;
COMMENT ON FUNCTION envelope_private.affected IS
    'the tables whose keys shred() would destroy for these arguments, with how many rows each has; changes nothing';
