-- A write needs the seals of all protected columns, at each row. For that each protected table has a table of one row, which
-- PostgreSQL reads in one scan without a condition: the same from capability takes three times as long.
-- These tables are members of the extension, so that no dump holds a capability; and unlogged, so that no publication has
-- them. A crash, and a failover, leaves such a table empty: a write then asks capability, until refresh() makes it anew.

CREATE FUNCTION envelope_private.seals_name(key uuid) RETURNS name
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC SELECT ('seal_' || replace(key::text, '-', ''))::name; END;
COMMENT ON FUNCTION envelope_private.seals_name IS 'the table that holds the seals of a protected table';

CREATE FUNCTION envelope_private.seals_of(key uuid) RETURNS regclass
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT c.oid::regclass FROM pg_class c
    WHERE c.relnamespace = 'envelope_private'::regnamespace AND c.relname = envelope_private.seals_name(key);
END;
COMMENT ON FUNCTION envelope_private.seals_of IS 'the same table, if there is one';

CREATE FUNCTION envelope_private.drop_seals(key uuid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seals regclass := envelope_private.seals_of(key);
BEGIN
    IF seals IS NOT NULL THEN
        EXECUTE format('ALTER EXTENSION pg_envelope DROP TABLE %s', seals);
        EXECUTE format('DROP TABLE %s', seals);
    END IF;
END $$;
COMMENT ON FUNCTION envelope_private.drop_seals IS 'the table is protected no more';

CREATE FUNCTION envelope_private.keep_seals(key uuid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seals text := format('envelope_private.%I', envelope_private.seals_name(key));
    owner regrole := (SELECT b.relowner FROM envelope_private.key k JOIN pg_class b ON b.oid = k.base
        WHERE k.key_uuid = keep_seals.key);
    names text[] := ARRAY(SELECT quote_ident(f.field_uuid::text) FROM envelope_private.field f
        WHERE f.key_uuid = keep_seals.key ORDER BY f.field_uuid);
    other text;
BEGIN
    PERFORM envelope_private.drop_seals(key);
    -- More would not fit into a row. Writes of such a table ask capability: MOST_SEALS in tables/generate/layout.py.
    IF owner IS NULL OR cardinality(names) NOT BETWEEN 1 AND 300 THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE UNLOGGED TABLE %s (%s bytea, is_one boolean PRIMARY KEY DEFAULT true CHECK (is_one))', seals,
        array_to_string(names, ' bytea, '));
    EXECUTE format('INSERT INTO %s (%s) VALUES (%s)', seals, array_to_string(names, ', '), (
        SELECT string_agg(format('(SELECT c.seal FROM envelope_private.capability c WHERE c.field_uuid = %L::uuid)',
            f.field_uuid), ', ' ORDER BY f.field_uuid)
        FROM envelope_private.field f WHERE f.key_uuid = keep_seals.key));
    EXECUTE format('COMMENT ON TABLE %s IS ''pg_envelope: seals, read by the triggers of one table alone''', seals);
    -- Default privileges of an administrator may have given it to others.
    FOR other IN
        SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
        FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = seals::regclass AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', seals, other);
    END LOOP;
    EXECUTE format('GRANT SELECT ON %s TO %s', seals, owner);
    -- The grants come first: a dump holds those that a member got later.
    EXECUTE format('ALTER EXTENSION pg_envelope ADD TABLE %s', seals);
END $$;
COMMENT ON FUNCTION envelope_private.keep_seals IS
    'makes the table of a protected table''s seals anew: for its columns and owner as they are now';

CREATE FUNCTION envelope_private.seal_changed() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seals regclass := (SELECT envelope_private.seals_of(f.key_uuid) FROM envelope_private.field f
        WHERE f.field_uuid = NEW.field_uuid);
BEGIN
    IF EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = seals AND a.attname = NEW.field_uuid::text) THEN
        EXECUTE format('UPDATE %s SET %I = (SELECT c.seal FROM envelope_private.capability c WHERE c.field_uuid = %L::uuid)',
            seals, NEW.field_uuid, NEW.field_uuid);
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION envelope_private.seal_changed IS 'keeps the seals of a table in step with capability';

CREATE TRIGGER seal_changed AFTER INSERT OR UPDATE OF seal ON envelope_private.capability
    FOR EACH ROW EXECUTE FUNCTION envelope_private.seal_changed();
ALTER TABLE envelope_private.capability ENABLE ALWAYS TRIGGER seal_changed;
