-- Tries whether all wraps still open. envelope.status() tries a sample.

CREATE FUNCTION envelope.verify_keys() RETURNS TABLE (dek_id bigint, label text, problem text, hint text)
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.reports.verify_keys()
$$;
COMMENT ON FUNCTION envelope.verify_keys IS
    'lets the KMS open every wrapped DEK of this database; returns one row for each DEK that does not open. SECURITY DEFINER: reads the key catalog';
