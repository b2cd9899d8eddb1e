-- Schemas. `envelope` is what people call and read; `envelope_private` is nobody's but the extension's own.

-- CREATE EXTENSION would look operators up in the schema it is made in, too, where others may create some that fit better.
SET LOCAL search_path = pg_catalog, pg_temp;

CREATE SCHEMA envelope;
COMMENT ON SCHEMA envelope IS 'pg_envelope: what users call and read';

CREATE SCHEMA envelope_private;
COMMENT ON SCHEMA envelope_private IS 'pg_envelope: state and helpers; no role but the extension''s owner needs it';

-- Generated views and triggers run as their caller when they meet a key they do not hold, and must then find
-- envelope.load_key() by name. What is in the schema is granted one by one (sql/90_grants.sql).
GRANT USAGE ON SCHEMA envelope TO PUBLIC;
