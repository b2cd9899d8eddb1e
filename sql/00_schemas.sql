-- Schemas. `envelope` is what people call and read; `envelope_private` is for the extension alone.

-- CREATE EXTENSION also looks operators up in its own schema, where other users may have created operators that fit
-- better.
SET LOCAL search_path = pg_catalog, pg_temp;

-- In SQL_ASCII PostgreSQL does not know which characters its bytes are: row keys would count bytes there and characters
-- in a database of another encoding, to which a dump can go, and no value would open in that one.
DO $$
BEGIN
    IF pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.=) 'SQL_ASCII' THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
            MESSAGE = 'pg_envelope does not work in a database whose encoding is SQL_ASCII',
            DETAIL = 'There PostgreSQL does not know which characters a text is made of. Values that are encrypted '
                'there could not be read after a dump and restore into a database of another encoding.',
            HINT = 'Make a database with another encoding, for example CREATE DATABASE new TEMPLATE template0 '
                'ENCODING ''UTF8'', and move the data there with pg_dump and pg_restore.';
    END IF;
END $$;

CREATE SCHEMA envelope;
COMMENT ON SCHEMA envelope IS 'pg_envelope: what users call and read';

CREATE SCHEMA envelope_internal;
COMMENT ON SCHEMA envelope_internal IS
    'pg_envelope: functions that generated views and triggers call with the rights of their user; nobody calls them by hand';

CREATE SCHEMA envelope_private;
COMMENT ON SCHEMA envelope_private IS 'pg_envelope: state and helpers; no role but the extension''s owner needs it';

-- Generated views and triggers run as their caller. When they meet a key that the session does not hold, they must find
-- envelope_internal.run_step() by name. Rights on single objects: sql/90_grants.sql.
GRANT USAGE ON SCHEMA envelope, envelope_internal TO PUBLIC;
