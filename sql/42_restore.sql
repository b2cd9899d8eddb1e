-- Triggers make capabilities for the key catalog, also while a dump is restored: a dump holds none, so new ones are
-- drawn. pg_restore loads the catalog's tables in any order and, with --jobs, at the same time: the last one completes
-- the rest.

CREATE FUNCTION envelope_private.renew_whole(field uuid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM envelope_private.field f JOIN envelope_private.key k USING (key_uuid)
               WHERE f.field_uuid = field AND coalesce(k.name, k.base::text) IS NOT NULL
                   AND (k.scope <> 'table' OR EXISTS (
                       SELECT FROM envelope_private.field_key fk WHERE fk.field_uuid = field))) THEN
        PERFORM envelope_private.renew_seal(field);
    END IF;
END $$;
COMMENT ON FUNCTION envelope_private.renew_whole IS 'calls renew_seal for a field that is in use, once all its rows are there';

CREATE FUNCTION envelope_private.allowed_owners() RETURNS TABLE (role regrole, is_idle boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT a.grantee::regrole, NOT EXISTS (
        SELECT FROM envelope_private.key k JOIN pg_class b ON b.oid = k.base WHERE b.relowner = a.grantee)
    FROM pg_class c CROSS JOIN aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee
    WHERE c.oid = 'envelope_private.capability'::regclass AND a.privilege_type = 'SELECT' AND a.grantee <> c.relowner;
END;
COMMENT ON FUNCTION envelope_private.allowed_owners IS
    'the roles that may read capabilities of their own tables; an idle one owns no protected table any more';

-- Who protects a table, or changes the rights of owners, does so alone from here to the end of the transaction. Two GRANTs
-- on the same object at once would fail. ALTER EXTENSION takes the same lock in the newest versions of PostgreSQL, so that
-- another one beside it could end in a deadlock. No command but COMMENT takes it in all versions. Nobody else waits for it.
CREATE FUNCTION envelope_private.lock_owners() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('COMMENT ON EXTENSION pg_envelope IS %L', (
        SELECT obj_description(e.oid, 'pg_extension') FROM pg_extension e WHERE e.extname = 'pg_envelope'));
END $$;
COMMENT ON FUNCTION envelope_private.lock_owners IS
    'waits until no other transaction protects a table or changes which owners may read capabilities';

CREATE FUNCTION envelope_private.allow_owner(owner oid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    role text := owner::regrole;
BEGIN
    IF (SELECT r.rolsuper FROM pg_roles r WHERE r.oid = owner)
        OR owner IN (SELECT o.role FROM envelope_private.allowed_owners() o) THEN
        RETURN;
    END IF;
    PERFORM envelope_private.lock_owners();
    EXECUTE format('GRANT USAGE ON SCHEMA envelope_private TO %s', role);
    EXECUTE format('GRANT SELECT ON envelope_private.capability TO %s', role);
END $$;
COMMENT ON FUNCTION envelope_private.allow_owner IS
    'lets the owner of a protected table''s view read the capabilities of its own columns';

CREATE FUNCTION envelope_private.release_owners() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    role regrole;
BEGIN
    IF NOT EXISTS (SELECT FROM envelope_private.allowed_owners() o WHERE o.is_idle) THEN
        RETURN;
    END IF;
    PERFORM envelope_private.lock_owners();
    -- They are asked again, because another transaction may just have protected a table of theirs.
    FOR role IN SELECT o.role FROM envelope_private.allowed_owners() o WHERE o.is_idle LOOP
        EXECUTE format('REVOKE SELECT ON envelope_private.capability FROM %s', role);
        EXECUTE format('REVOKE USAGE ON SCHEMA envelope_private FROM %s', role);
    END LOOP;
END $$;
COMMENT ON FUNCTION envelope_private.release_owners IS
    'takes the right to read capabilities from roles that own no protected table any more, so that they can be dropped';

CREATE FUNCTION envelope_private.field_key_changed() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$ BEGIN PERFORM envelope_private.renew_whole(NEW.field_uuid); RETURN NULL; END $$;
COMMENT ON FUNCTION envelope_private.field_key_changed IS 'keeps seals in step with keys';

-- Keys of tenants and subjects are left out: no seal names them, and a session that makes one must not wait at commit.
CREATE TRIGGER renew_seal AFTER INSERT OR UPDATE OF state ON envelope_private.field_key
    FOR EACH ROW WHEN (NEW.field_uuid IS NOT NULL) EXECUTE FUNCTION envelope_private.field_key_changed();

CREATE FUNCTION envelope_private.rights_of(key uuid) RETURNS SETOF pg_class
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    -- The names as a range, for which there is an index: this runs for each row of a key that is made.
    SELECT c FROM pg_class c
    WHERE c.relnamespace = 'envelope_private'::regnamespace AND c.relkind = 'm'
        AND c.relname >= ('right_' || replace(key::text, '-', ''))::name
        AND c.relname < ('right_' || replace(key::text, '-', '') || '~')::name;
END;
COMMENT ON FUNCTION envelope_private.rights_of IS 'the relations that hand the capabilities of a table to its view';

CREATE FUNCTION envelope_private.refresh_rights(key uuid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rights regclass;
BEGIN
    FOR rights IN SELECT r.oid FROM envelope_private.rights_of(key) r LOOP
        EXECUTE format('REFRESH MATERIALIZED VIEW %s', rights);
    END LOOP;
    PERFORM envelope_private.keep_seals(key);
END $$;
COMMENT ON FUNCTION envelope_private.refresh_rights IS
    'gives a table''s view and triggers the capabilities that are valid now';

CREATE FUNCTION envelope_private.is_whole(field uuid, key uuid) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce(bool_and(c.seal IS NOT NULL
        AND (c.view_owner IS NOT NULL OR k.base IS NULL AND s.search_uuid IS NULL)
        AND NOT EXISTS (SELECT FROM envelope_private.rights_of(f.key_uuid) r WHERE NOT r.relispopulated)
        AND (b.oid IS NULL OR o.rolsuper OR b.relowner IN (SELECT a.role FROM envelope_private.allowed_owners() a))), false)
    FROM envelope_private.field f JOIN envelope_private.key k USING (key_uuid)
    LEFT JOIN envelope_private.capability c USING (field_uuid)
    LEFT JOIN envelope_private.search_key s ON s.search_uuid = f.field_uuid
    LEFT JOIN pg_class b ON b.oid = k.base LEFT JOIN pg_roles o ON o.oid = b.relowner
    WHERE f.field_uuid = field OR field IS NULL AND f.key_uuid = key;
END;
COMMENT ON FUNCTION envelope_private.is_whole IS
    'whether a field, or all fields of a key, have all that views and triggers read; false without such a field';

CREATE FUNCTION envelope_private.complete() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    loaded jsonb := to_jsonb(NEW);
    drawn uuid[] := '{}';
    found record;
BEGIN
    -- protect() and rotate() leave nothing to do. So a rotation waits for nobody.
    IF TG_TABLE_NAME IN ('key', 'field', 'field_key')
        AND envelope_private.is_whole((loaded ->> 'field_uuid')::uuid, (loaded ->> 'key_uuid')::uuid) THEN
        RETURN NULL;
    END IF;
    -- This runs one after the other. Two transactions that load at once would each miss the other's rows.
    PERFORM envelope_private.lock_owners();
    FOR found IN
        SELECT f.field_uuid, f.key_uuid, b.relowner, c.field_uuid IS NULL AS lacks,
            EXISTS (
                SELECT FROM envelope_private.rights_of(f.key_uuid) r WHERE NOT r.relispopulated) AS waits
        FROM envelope_private.field f JOIN envelope_private.key k USING (key_uuid)
        LEFT JOIN pg_class b ON b.oid = k.base LEFT JOIN envelope_private.capability c USING (field_uuid)
        -- A row of a field completes that field alone. To complete all fields for each row would be quadratic.
        WHERE f.field_uuid = (loaded ->> 'field_uuid')::uuid
            OR loaded ->> 'field_uuid' IS NULL AND f.key_uuid = (loaded ->> 'key_uuid')::uuid
    LOOP
        IF found.relowner IS NOT NULL THEN
            PERFORM envelope_private.allow_owner(found.relowner);
        END IF;
        IF found.lacks THEN
            PERFORM envelope_private.renew_whole(found.field_uuid);
        END IF;
        -- renew_seal makes the capability when the last of its rows comes. Rights that were filled before that would
        -- stay empty.
        IF (found.lacks OR found.waits)
            AND EXISTS (SELECT FROM envelope_private.capability c WHERE c.field_uuid = found.field_uuid) THEN
            drawn := drawn || found.key_uuid;
        END IF;
    END LOOP;
    PERFORM envelope_private.refresh_rights(key) FROM (SELECT DISTINCT unnest(drawn)) AS keys (key);
    -- The owner of the tables that use a search key is known once their rows are there, too.
    PERFORM envelope_private.renew_whole(c.field_uuid) FROM envelope_private.search_key k
        JOIN envelope_private.capability c ON c.field_uuid = k.search_uuid WHERE c.view_owner IS NULL;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION envelope_private.complete IS
    'makes, at commit, capabilities and rights for rows that were loaded into the key catalog. SECURITY DEFINER: a deferred trigger runs as the role that commits';

CREATE CONSTRAINT TRIGGER complete AFTER INSERT ON envelope_private.key
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION envelope_private.complete();
CREATE CONSTRAINT TRIGGER complete AFTER INSERT ON envelope_private.field
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION envelope_private.complete();
CREATE CONSTRAINT TRIGGER complete AFTER INSERT ON envelope_private.search
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION envelope_private.complete();
CREATE CONSTRAINT TRIGGER complete AFTER INSERT ON envelope_private.search_key
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION envelope_private.complete();
CREATE CONSTRAINT TRIGGER complete AFTER INSERT ON envelope_private.field_key
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.field_uuid IS NOT NULL)
    EXECUTE FUNCTION envelope_private.complete();

CREATE FUNCTION envelope.renew_capabilities() RETURNS bigint
    LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT envelope_private.allow_owner(owner) FROM (
        SELECT DISTINCT b.relowner FROM envelope_private.key k JOIN pg_class b ON b.oid = k.base) AS owners (owner);
    DELETE FROM envelope_private.capability;
    SELECT count(envelope_private.renew_whole(field_uuid)) FROM envelope_private.field;
    SELECT count(envelope_private.refresh_rights(key_uuid)) FROM envelope_private.key;
    SELECT count(*) FROM envelope_private.capability;
END;
COMMENT ON FUNCTION envelope.renew_capabilities IS
    'draws new capabilities for all columns and named keys. Call it after a restore with triggers disabled. If a capability leaked, call flush() as well';
