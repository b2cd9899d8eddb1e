-- pg_dump reads with the rights of its user, and a database's owner need not be a superuser.

CREATE FUNCTION envelope_private.allow_dump(relation regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- PostgreSQL keeps this role: its one member is the present owner of this database.
    EXECUTE format('GRANT SELECT ON %s %s TO pg_database_owner',
        (SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END FROM pg_class c WHERE c.oid = relation), relation);
END $$;
COMMENT ON FUNCTION envelope_private.allow_dump IS
    'lets the database''s owner dump a table or sequence of the key catalog; never one with capabilities';
