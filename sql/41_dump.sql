-- What pg_dump reads, it reads with the rights of whoever runs it, and a database's owner need not be a superuser.

CREATE FUNCTION envelope_private.allow_dump(relation regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- A role that PostgreSQL keeps: its one member is the owner of this database, whoever that is now.
    EXECUTE format('GRANT SELECT ON %s %s TO pg_database_owner',
        (SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END FROM pg_class c WHERE c.oid = relation), relation);
END $$;
COMMENT ON FUNCTION envelope_private.allow_dump IS
    'lets the database''s owner dump a table or sequence of the key catalog; never one with capabilities';
