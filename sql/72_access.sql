-- Who can read what: docs/access.md.

CREATE FUNCTION envelope.access(proof boolean DEFAULT true)
    RETURNS TABLE (role name, relation regclass, "column" name, access text, paths text[], direct text, proved text, finding text)
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.reports.access(proof)
$$;
CREATE FUNCTION envelope_private.is_harmless(rel regclass) RETURNS boolean
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.reports.is_harmless(rel)
$$;
COMMENT ON FUNCTION envelope_private.is_harmless IS
    'whether a read of a protected table''s view runs code of nobody who does not have the rights of the current role; until the transaction ends nobody can change that';

COMMENT ON FUNCTION envelope.access IS
    'one row per role and protected column: the most that the role can get (clear, masked, search only, none), and by which paths; direct is what its own SELECT gives as computed, and proved as tried; finding is where the two differ';
