-- Logical replication: a subscriber gets rows and the key catalog, and draws capabilities of its own.
-- docs/logical-replication.md.

-- The triggers of sql/42_restore.sql also fire in a subscriber's apply worker, where session_replication_role is
-- replica.
ALTER TABLE envelope_private.key ENABLE ALWAYS TRIGGER complete;
ALTER TABLE envelope_private.field ENABLE ALWAYS TRIGGER complete;
ALTER TABLE envelope_private.field_key ENABLE ALWAYS TRIGGER complete;
ALTER TABLE envelope_private.field_key ENABLE ALWAYS TRIGGER renew_seal;

CREATE FUNCTION envelope_private.keep_own() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN NULL; END $$;
COMMENT ON FUNCTION envelope_private.keep_own IS
    'passes over a row of capability that comes from a publisher: this database draws its own';

-- It fires in a replica session only, and passes over the rows that the triggers above draw there.
CREATE TRIGGER keep_own BEFORE INSERT OR UPDATE OR DELETE ON envelope_private.capability
    FOR EACH ROW WHEN (pg_catalog.pg_trigger_depth() = 0) EXECUTE FUNCTION envelope_private.keep_own();
ALTER TABLE envelope_private.capability ENABLE REPLICA TRIGGER keep_own;

CREATE VIEW envelope_private.published AS
    SELECT p.publication, p.relation,
        p.relation = 'envelope_private.capability'::regclass AS is_capability, k.base IS NOT NULL AS is_protected
    FROM (
        SELECT pubname AS publication, format('%I.%I', schemaname, tablename)::regclass AS relation
        FROM pg_catalog.pg_publication_tables) p
    LEFT JOIN envelope_private.key k ON k.base = p.relation;
COMMENT ON VIEW envelope_private.published IS 'the tables of all publications, and whether they are protected or hold capabilities';

CREATE FUNCTION envelope.publish_keys(publication name) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    catalog text;
BEGIN
    SELECT string_agg(c.oid::regclass::text, ', ' ORDER BY c.oid) INTO catalog
        FROM pg_extension e JOIN pg_class c ON c.oid = ANY (e.extconfig) AND c.relkind = 'r'
        WHERE e.extname = 'pg_envelope' AND NOT EXISTS (
            SELECT FROM envelope_private.published p WHERE p.publication = $1 AND p.relation = c.oid);
    IF catalog IS NOT NULL THEN
        EXECUTE format('ALTER PUBLICATION %I ADD TABLE %s', publication, catalog);
    END IF;
END $$;
COMMENT ON FUNCTION envelope.publish_keys IS
    'adds the tables of the key catalog to a publication, so that its subscribers can open what it publishes; can be repeated';
