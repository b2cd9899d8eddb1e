-- Schemas. `envelope` is what people call and read; `envelope_private` is for the extension alone.

-- CREATE EXTENSION also looks operators up in its own schema, where other users may have created operators that fit
-- better.
SET LOCAL search_path = pg_catalog, pg_temp;

-- Row keys count characters, and a dump can go to a database of another encoding. In SQL_ASCII PostgreSQL would count
-- bytes. In EUC_JIS_2004 one character can be two in Unicode. From MULE_INTERNAL there is no way to Unicode. So values of
-- such a database would not open in another one.
DO $$
DECLARE
    encoding text := pg_catalog.getdatabaseencoding();
BEGIN
    IF encoding OPERATOR(pg_catalog.=) ANY ('{SQL_ASCII,EUC_JIS_2004,MULE_INTERNAL}'::pg_catalog.text[]) THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
            MESSAGE = pg_catalog.format('pg_envelope does not work in a database whose encoding is %s', encoding),
            DETAIL = 'There PostgreSQL does not know which characters of Unicode a text is made of, or counts them '
                'otherwise. Values that are encrypted there could not be read after a dump and restore into a database '
                'of another encoding.',
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
