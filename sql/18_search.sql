-- Search columns, and the keys of their tokens: FORMAT.md section 8. Made once; changed by upgrade scripts only.

CREATE TABLE envelope_private.search_key (
    search_uuid uuid PRIMARY KEY,
    type_name name UNIQUE,
    schema name NOT NULL,
    normalizer text NOT NULL,
    plain_type text NOT NULL
);
COMMENT ON TABLE envelope_private.search_key IS
    'one row per search key: a field of bind search, and the type in schema envelope_search whose operators compare by it';
COMMENT ON COLUMN envelope_private.search_key.type_name IS
    'NULL for a new key whose tokens are still being made: then the type compares by the key that it will replace';
COMMENT ON COLUMN envelope_private.search_key.schema IS 'the schema of its tables, and of its operators for users';
COMMENT ON COLUMN envelope_private.search_key.normalizer IS 'name and version of the normaliser, which is part of every token';
COMMENT ON COLUMN envelope_private.search_key.plain_type IS 'the type whose values are compared';

CREATE TABLE envelope_private.search (
    field_uuid uuid NOT NULL,
    attname name NOT NULL,
    attnum smallint NOT NULL,
    search_uuid uuid NOT NULL,
    is_filled boolean NOT NULL DEFAULT true,
    is_unique boolean NOT NULL DEFAULT false,
    replaces name,
    PRIMARY KEY (field_uuid, attname)
);
COMMENT ON TABLE envelope_private.search IS 'one row per search column: the protected column that it finds, and its key';
COMMENT ON COLUMN envelope_private.search.is_filled IS 'false while tokens of older rows are missing: the view does not show the column';
COMMENT ON COLUMN envelope_private.search.is_unique IS 'of one that is not filled: its index will be unique';
COMMENT ON COLUMN envelope_private.search.replaces IS
    'of one that is not filled: the search column whose place it takes, with another key or normaliser';

CREATE TABLE envelope_private.carried (
    key_uuid uuid NOT NULL,
    name name NOT NULL,
    definition jsonb NOT NULL,
    PRIMARY KEY (key_uuid, name)
);
COMMENT ON TABLE envelope_private.carried IS
    'indexes and UNIQUE constraints that protect() turned into those of tokens, for unprotect() to put back';

CREATE TABLE envelope_private.search_function (
    normalizer text PRIMARY KEY,
    function text NOT NULL
);
COMMENT ON TABLE envelope_private.search_function IS
    'normalisers that are copies of users'' functions, in schema envelope_compare, and the function that each was made of';

SELECT pg_catalog.pg_extension_config_dump('envelope_private.search_function', '');
SELECT pg_catalog.pg_extension_config_dump('envelope_private.search_key', '');
SELECT pg_catalog.pg_extension_config_dump('envelope_private.search', '');
SELECT pg_catalog.pg_extension_config_dump('envelope_private.carried', '');
