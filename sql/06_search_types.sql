-- What search tokens are stored as: FORMAT.md section 8. Nobody has USAGE on this schema, so nobody can write a token of
-- their own, nor call what makes one: operators on search columns are found in the schemas of the protected tables.

CREATE SCHEMA envelope_search;
COMMENT ON SCHEMA envelope_search IS
    'pg_envelope: types and operators of search columns; only the operators of a table''s own schema lead here';

-- A type of its own, not a domain: it turns into the type of a search key by itself, and bytea never does.
CREATE TYPE envelope_search.token;

CREATE FUNCTION envelope_search.token_in(content cstring) RETURNS envelope_search.token
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'byteain';
COMMENT ON FUNCTION envelope_search.token_in IS 'input of envelope_search.token';

CREATE FUNCTION envelope_search.token_out(content envelope_search.token) RETURNS cstring
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'byteaout';
COMMENT ON FUNCTION envelope_search.token_out IS 'output of envelope_search.token: dumps and replication need it';

CREATE FUNCTION envelope_search.token_recv(content internal) RETURNS envelope_search.token
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'bytearecv';
COMMENT ON FUNCTION envelope_search.token_recv IS 'binary input of envelope_search.token';

CREATE FUNCTION envelope_search.token_send(content envelope_search.token) RETURNS bytea
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'byteasend';
COMMENT ON FUNCTION envelope_search.token_send IS 'binary output of envelope_search.token';

CREATE TYPE envelope_search.token (
    INPUT = envelope_search.token_in, OUTPUT = envelope_search.token_out,
    RECEIVE = envelope_search.token_recv, SEND = envelope_search.token_send,
    INTERNALLENGTH = VARIABLE, ALIGNMENT = int4, STORAGE = plain);
COMMENT ON TYPE envelope_search.token IS 'one search token: 16 bytes, FORMAT.md section 8';
