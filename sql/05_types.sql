-- The type of what is encrypted: FORMAT.md section 1. Its CHECK uses built-in functions only, so that it holds in every
-- situation in which PostgreSQL checks a domain, with session_replication_role = replica too.

CREATE DOMAIN envelope.ciphertext AS bytea
    CONSTRAINT ciphertext_is_an_envelope CHECK (
        VALUE IS NULL
        OR pg_catalog.octet_length(VALUE) OPERATOR(pg_catalog.>=) 22
            AND pg_catalog.get_byte(pg_catalog.substr(VALUE, 1, 1), 0) OPERATOR(pg_catalog.=) 225
            AND (pg_catalog.get_byte(pg_catalog.substr(VALUE, 2, 1), 0) OPERATOR(pg_catalog.&) 127)
                OPERATOR(pg_catalog.=) ANY ('{1,2,3,5}'::pg_catalog.int4[])
            AND pg_catalog.octet_length(VALUE) OPERATOR(pg_catalog.>=)
                CASE pg_catalog.get_byte(pg_catalog.substr(VALUE, 2, 1), 0) OPERATOR(pg_catalog.&) 127
                    WHEN 2 THEN 46 ELSE 34 END
    );
COMMENT ON DOMAIN envelope.ciphertext IS
    'one encrypted value: version, suite, key id, nonce, ciphertext, tag (FORMAT.md section 1)';
