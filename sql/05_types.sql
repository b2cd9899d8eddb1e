-- The type of encrypted values: FORMAT.md section 1. Its CHECK uses built-in functions only, so that it holds in every
-- situation in which PostgreSQL checks a domain, with session_replication_role = replica too.

CREATE DOMAIN envelope.ciphertext AS bytea
    CONSTRAINT ciphertext_is_an_envelope CHECK (
        VALUE IS NULL
        OR pg_catalog.octet_length(VALUE) OPERATOR(pg_catalog.>=) 22
            AND pg_catalog.get_byte(pg_catalog.substr(VALUE, 1, 1), 0) OPERATOR(pg_catalog.=) 225
            AND (pg_catalog.get_byte(pg_catalog.substr(VALUE, 2, 1), 0) OPERATOR(pg_catalog.&) 127)
                OPERATOR(pg_catalog.=) ANY ('{1,2,3,4,5}'::pg_catalog.int4[])
            AND pg_catalog.octet_length(VALUE) OPERATOR(pg_catalog.>=)
                CASE pg_catalog.get_byte(pg_catalog.substr(VALUE, 2, 1), 0) OPERATOR(pg_catalog.&) 127
                    WHEN 2 THEN 46 WHEN 4 THEN 22 ELSE 34 END
            -- A Korean text of letters that are not composed begins with E1 84, and then a byte from 80 to BF.
            AND (pg_catalog.get_byte(pg_catalog.substr(VALUE, 2, 1), 0) OPERATOR(pg_catalog.<>) 132
                OR pg_catalog.get_byte(pg_catalog.substr(VALUE, 3, 1), 0) OPERATOR(pg_catalog.<) 128
                OR pg_catalog.get_byte(pg_catalog.substr(VALUE, 3, 1), 0) OPERATOR(pg_catalog.>) 191)
    );
COMMENT ON DOMAIN envelope.ciphertext IS
    'one encrypted value: version, suite, key id, nonce, ciphertext, tag (FORMAT.md section 1)';

-- The way of a value to its canonical text and back: FORMAT.md section 1.2. A conversion that goes through this type is
-- the value's own output and input function, because nobody has USAGE on it, and so nobody can make another cast.
CREATE TYPE envelope.plaintext;

CREATE FUNCTION envelope_private.plaintext_in(content cstring) RETURNS envelope.plaintext
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'textin';
COMMENT ON FUNCTION envelope_private.plaintext_in IS 'input of envelope.plaintext';

CREATE FUNCTION envelope_private.plaintext_out(content envelope.plaintext) RETURNS cstring
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'textout';
COMMENT ON FUNCTION envelope_private.plaintext_out IS 'output of envelope.plaintext';

CREATE TYPE envelope.plaintext (
    INPUT = envelope_private.plaintext_in, OUTPUT = envelope_private.plaintext_out,
    LIKE = pg_catalog.text, CATEGORY = 'S');
COMMENT ON TYPE envelope.plaintext IS
    'text between a value and its envelope: it converts by the output and input functions of the value''s own type';

CREATE CAST (envelope.plaintext AS pg_catalog.text) WITHOUT FUNCTION;
CREATE CAST (pg_catalog.text AS envelope.plaintext) WITHOUT FUNCTION;
