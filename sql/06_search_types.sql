-- The type in which search tokens are stored: FORMAT.md section 8. Nobody has USAGE on this schema, so nobody can write
-- a token of their own, nor call a function that makes one. Users find the operators in the schemas of the protected
-- tables.

CREATE SCHEMA envelope_search;
COMMENT ON SCHEMA envelope_search IS
    'pg_envelope: types and operators of search columns; only the operators of a table''s own schema lead here';

-- PostgreSQL checks foreign keys as the owner of their table, and finds the operator by its schema.
CREATE SCHEMA envelope_compare;
COMMENT ON SCHEMA envelope_compare IS
    'pg_envelope: operators between two search columns of one key, which take no other values';

-- A type of its own, not a domain: it turns into the type of a search key by itself, and bytea never does. It has a
-- collation, because PostgreSQL compares the keys of a unique index under that of the column, by texteq: see
-- backend/search/types.py.
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
    INTERNALLENGTH = VARIABLE, ALIGNMENT = int4, STORAGE = plain, COLLATABLE = true);
COMMENT ON TYPE envelope_search.token IS 'one search token: 16 bytes, FORMAT.md section 8';

-- With this order ANALYZE counts different tokens and common ones. Without it, every search would have the same
-- estimate.

CREATE FUNCTION envelope_search.token_lt(one envelope_search.token, other envelope_search.token) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'bytealt';
COMMENT ON FUNCTION envelope_search.token_lt IS 'one < other, byte by byte';
CREATE OPERATOR envelope_search.< (
    LEFTARG = envelope_search.token, RIGHTARG = envelope_search.token, FUNCTION = envelope_search.token_lt,
    COMMUTATOR = OPERATOR(envelope_search.>), RESTRICT = scalarltsel, JOIN = scalarltjoinsel);

CREATE FUNCTION envelope_search.token_le(one envelope_search.token, other envelope_search.token) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'byteale';
COMMENT ON FUNCTION envelope_search.token_le IS 'one <= other, byte by byte';
CREATE OPERATOR envelope_search.<= (
    LEFTARG = envelope_search.token, RIGHTARG = envelope_search.token, FUNCTION = envelope_search.token_le,
    COMMUTATOR = OPERATOR(envelope_search.>=), RESTRICT = scalarlesel, JOIN = scalarlejoinsel);

CREATE FUNCTION envelope_search.token_eq(one envelope_search.token, other envelope_search.token) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'byteaeq';
COMMENT ON FUNCTION envelope_search.token_eq IS 'one = other, byte by byte';
CREATE OPERATOR envelope_search.= (
    LEFTARG = envelope_search.token, RIGHTARG = envelope_search.token, FUNCTION = envelope_search.token_eq,
    COMMUTATOR = OPERATOR(envelope_search.=), RESTRICT = eqsel, JOIN = eqjoinsel);

CREATE FUNCTION envelope_search.token_ge(one envelope_search.token, other envelope_search.token) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'byteage';
COMMENT ON FUNCTION envelope_search.token_ge IS 'one >= other, byte by byte';
CREATE OPERATOR envelope_search.>= (
    LEFTARG = envelope_search.token, RIGHTARG = envelope_search.token, FUNCTION = envelope_search.token_ge,
    COMMUTATOR = OPERATOR(envelope_search.<=), RESTRICT = scalargesel, JOIN = scalargejoinsel);

CREATE FUNCTION envelope_search.token_gt(one envelope_search.token, other envelope_search.token) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'byteagt';
COMMENT ON FUNCTION envelope_search.token_gt IS 'one > other, byte by byte';
CREATE OPERATOR envelope_search.> (
    LEFTARG = envelope_search.token, RIGHTARG = envelope_search.token, FUNCTION = envelope_search.token_gt,
    COMMUTATOR = OPERATOR(envelope_search.<), RESTRICT = scalargtsel, JOIN = scalargtjoinsel);

CREATE FUNCTION envelope_search.token_cmp(one envelope_search.token, other envelope_search.token) RETURNS integer
    LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'byteacmp';
COMMENT ON FUNCTION envelope_search.token_cmp IS 'the order of tokens';
CREATE OPERATOR CLASS envelope_search.token_ops DEFAULT FOR TYPE envelope_search.token USING btree AS
    OPERATOR 1 envelope_search.<, OPERATOR 2 envelope_search.<=, OPERATOR 3 envelope_search.=,
    OPERATOR 4 envelope_search.>=, OPERATOR 5 envelope_search.>,
    FUNCTION 1 envelope_search.token_cmp(envelope_search.token, envelope_search.token);

-- A client has made the right side. Only a base table has a column of the left type, and who may read that column sees
-- the tokens themselves.
CREATE FUNCTION envelope_search.token_is(one envelope_search.token, other bytea) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'byteaeq';
COMMENT ON FUNCTION envelope_search.token_is IS 'whether a stored token is the one that a client has made';
CREATE OPERATOR envelope_compare.= (
    LEFTARG = envelope_search.token, RIGHTARG = bytea, FUNCTION = envelope_search.token_is,
    RESTRICT = eqsel, JOIN = eqjoinsel);

-- The grams of a value: FORMAT.md section 8.1. PostgreSQL's functions for oidvector read and write them, and those for
-- arrays compare them, because an oidvector is an array of unsigned 32-bit numbers. They take no compressed values.
CREATE TYPE envelope_search.grams;

CREATE FUNCTION envelope_search.grams_in(content cstring) RETURNS envelope_search.grams
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'oidvectorin';
COMMENT ON FUNCTION envelope_search.grams_in IS 'input of envelope_search.grams';

CREATE FUNCTION envelope_search.grams_out(content envelope_search.grams) RETURNS cstring
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'oidvectorout';
COMMENT ON FUNCTION envelope_search.grams_out IS 'output of envelope_search.grams: dumps and replication need it';

CREATE FUNCTION envelope_search.grams_recv(content internal) RETURNS envelope_search.grams
    LANGUAGE internal STABLE STRICT PARALLEL SAFE AS 'oidvectorrecv';
COMMENT ON FUNCTION envelope_search.grams_recv IS 'binary input of envelope_search.grams';

CREATE FUNCTION envelope_search.grams_send(content envelope_search.grams) RETURNS bytea
    LANGUAGE internal STABLE STRICT PARALLEL SAFE AS 'oidvectorsend';
COMMENT ON FUNCTION envelope_search.grams_send IS 'binary output of envelope_search.grams';

CREATE TYPE envelope_search.grams (
    INPUT = envelope_search.grams_in, OUTPUT = envelope_search.grams_out,
    RECEIVE = envelope_search.grams_recv, SEND = envelope_search.grams_send,
    INTERNALLENGTH = VARIABLE, ALIGNMENT = int4, STORAGE = plain);
COMMENT ON TYPE envelope_search.grams IS 'the grams of one value: FORMAT.md section 8.1';
