-- Suspended keys, tenants with KEKs of their own, and DEKs from one KEK to another: docs/tenants.md.
-- These are procedures, because they commit: before caches are emptied, or batch by batch. See 60_keys.sql.

CREATE PROCEDURE envelope.suspend(rel regclass, tenant text DEFAULT NULL, reason text DEFAULT '')
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].tenants.suspend(rel, tenant, reason)
$$;
COMMENT ON PROCEDURE envelope.suspend IS
    'suspends the keys of a table, or of one tenant in it: from now on no session can read or write its values';

CREATE PROCEDURE envelope.unsuspend(rel regclass, tenant text DEFAULT NULL, version integer DEFAULT NULL)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].tenants.unsuspend(rel, tenant, version)
$$;
COMMENT ON PROCEDURE envelope.unsuspend IS
    'makes suspended keys usable again: each key version returns to the state that it had. With a version: only that version, even if retire suspended it';

CREATE PROCEDURE envelope.suspend_key(name text, reason text DEFAULT '')
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].tenants.suspend_key(name, reason)
$$;
COMMENT ON PROCEDURE envelope.suspend_key IS 'suspends a named key: nobody can encrypt or decrypt with it';

CREATE PROCEDURE envelope.unsuspend_key(name text)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].tenants.unsuspend_key(name)
$$;
COMMENT ON PROCEDURE envelope.unsuspend_key IS 'makes a suspended named key usable again';

CREATE PROCEDURE envelope.move_kek(
    from_kek text, to_kek text, to_store text DEFAULT NULL, rel regclass DEFAULT NULL, tenant text DEFAULT NULL)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].tenants.move_kek(from_kek, to_kek, to_store, rel, tenant)
$$;
COMMENT ON PROCEDURE envelope.move_kek IS
    'moves DEKs of all keys, a table or a tenant to another KEK or store, in any KMS; data is not touched. Not inside a transaction';

CREATE FUNCTION envelope.tenant_kek(
    rel regclass, tenant text, kek text, store text DEFAULT NULL, new_tenant boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ BEGIN PERFORM envelope_private.tenant_kek(rel::oid, tenant, kek, store, new_tenant); END $$;
COMMENT ON FUNCTION envelope.tenant_kek IS
    'sets the KEK of a tenant''s next keys in a table, after the KEK has wrapped and opened a key for trial. move_kek(..., rel => ..., tenant => ...) moves the keys that exist. new_tenant: the tenant has no row yet';

CREATE FUNCTION envelope_private.tenant_kek(base oid, tenant text, kek text, store text, new_tenant boolean)
    RETURNS void
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].tenants.tenant_kek(base, tenant, kek, store, new_tenant)
$$;
COMMENT ON FUNCTION envelope_private.tenant_kek IS 'tenant_kek, by the OID of view or base table';
