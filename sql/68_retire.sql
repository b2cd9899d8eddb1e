-- Retires old key versions that no value needs. Only a call that names the version does so.

CREATE PROCEDURE envelope.retire(rel regclass, version integer, destroy boolean DEFAULT false)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.keys.retire(rel, version, destroy)
$$;
COMMENT ON PROCEDURE envelope.retire IS
    'suspends an old key version of a protected table that no value needs. After the schedule''s grace, destroy => true destroys it for good. Not inside a transaction';

CREATE FUNCTION envelope_private.is_needed(relation name, held jsonb) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT CASE
        WHEN relation IN ('dek', 'field_key') THEN held ->> 'state' <> 'destroyed' AND EXISTS (
            SELECT FROM envelope_private.dek d JOIN envelope_private.key k USING (key_uuid)
            WHERE d.dek_id = (held ->> 'dek_id')::bigint AND coalesce(k.name, k.base::text) IS NOT NULL)
        WHEN relation IN ('key', 'field') THEN EXISTS (
            SELECT FROM envelope_private.dek d
            LEFT JOIN envelope_private.key k ON k.key_uuid = (held ->> 'key_uuid')::uuid
            WHERE d.state <> 'destroyed' AND d.key_uuid IN ((held ->> 'key_uuid')::uuid, k.scope_of))
        ELSE EXISTS (SELECT FROM envelope_private.dek WHERE state <> 'destroyed')
    END;
END;
COMMENT ON FUNCTION envelope_private.is_needed IS
    'whether a row of the key catalog is needed to open values: a DEK that is in use, or its key or field';

CREATE FUNCTION envelope_private.refuse_delete() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    why text := 'rows of the key catalog are not deleted while their key is in use';
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF NOT envelope_private.is_needed(TG_TABLE_NAME, to_jsonb(OLD)) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'object_in_use', MESSAGE = why, SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
        DETAIL = 'Without its key no value can be read again.',
        HINT = 'CALL envelope.retire(...) destroys old versions that no value needs. CALL envelope.shred(...) erases.';
END $$;
COMMENT ON FUNCTION envelope_private.refuse_delete IS 'refuses a DELETE in the key catalog, against accidents of a superuser who tidies up';

CREATE TRIGGER refuse_delete BEFORE DELETE ON envelope_private.dek
    FOR EACH ROW EXECUTE FUNCTION envelope_private.refuse_delete();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON envelope_private.dek
    FOR EACH STATEMENT EXECUTE FUNCTION envelope_private.refuse_delete();
CREATE TRIGGER refuse_delete BEFORE DELETE ON envelope_private.field_key
    FOR EACH ROW EXECUTE FUNCTION envelope_private.refuse_delete();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON envelope_private.field_key
    FOR EACH STATEMENT EXECUTE FUNCTION envelope_private.refuse_delete();
CREATE TRIGGER refuse_delete BEFORE DELETE ON envelope_private.field
    FOR EACH ROW EXECUTE FUNCTION envelope_private.refuse_delete();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON envelope_private.field
    FOR EACH STATEMENT EXECUTE FUNCTION envelope_private.refuse_delete();
CREATE TRIGGER refuse_delete BEFORE DELETE ON envelope_private.key
    FOR EACH ROW EXECUTE FUNCTION envelope_private.refuse_delete();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON envelope_private.key
    FOR EACH STATEMENT EXECUTE FUNCTION envelope_private.refuse_delete();
CREATE TRIGGER refuse_delete BEFORE DELETE ON envelope_private.installation
    FOR EACH ROW EXECUTE FUNCTION envelope_private.refuse_delete();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON envelope_private.installation
    FOR EACH STATEMENT EXECUTE FUNCTION envelope_private.refuse_delete();
