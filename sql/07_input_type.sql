-- The type of the columns by which an upsert relation takes values for protected columns. It takes every text, and has
-- no operators: nothing can be compared with what such a column holds, which is a mark.

CREATE TYPE envelope.input;

CREATE FUNCTION envelope_private.input_in(content cstring) RETURNS envelope.input
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'textin';
COMMENT ON FUNCTION envelope_private.input_in IS 'input of envelope.input';

CREATE FUNCTION envelope_private.input_out(content envelope.input) RETURNS cstring
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'textout';
COMMENT ON FUNCTION envelope_private.input_out IS 'output of envelope.input';

CREATE FUNCTION envelope_private.input_recv(content internal) RETURNS envelope.input
    LANGUAGE internal STABLE STRICT PARALLEL SAFE AS 'textrecv';
COMMENT ON FUNCTION envelope_private.input_recv IS 'binary input of envelope.input';

CREATE FUNCTION envelope_private.input_send(content envelope.input) RETURNS bytea
    LANGUAGE internal STABLE STRICT PARALLEL SAFE AS 'textsend';
COMMENT ON FUNCTION envelope_private.input_send IS 'binary output of envelope.input';

CREATE TYPE envelope.input (
    INPUT = envelope_private.input_in, OUTPUT = envelope_private.input_out,
    RECEIVE = envelope_private.input_recv, SEND = envelope_private.input_send,
    LIKE = pg_catalog.text, CATEGORY = 'U');
COMMENT ON TYPE envelope.input IS
    'a value on its way into a protected column, through an upsert relation. What is stored is a mark';

CREATE CAST (envelope.input AS pg_catalog.text) WITHOUT FUNCTION;
CREATE CAST (pg_catalog.text AS envelope.input) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE CAST (pg_catalog.varchar AS envelope.input) WITHOUT FUNCTION AS ASSIGNMENT;
-- The text of a value is read again in the same statement, so under the same settings.
CREATE CAST (pg_catalog.int2 AS envelope.input) WITH INOUT AS ASSIGNMENT;
CREATE CAST (pg_catalog.int4 AS envelope.input) WITH INOUT AS ASSIGNMENT;
CREATE CAST (pg_catalog.int8 AS envelope.input) WITH INOUT AS ASSIGNMENT;
CREATE CAST (pg_catalog.numeric AS envelope.input) WITH INOUT AS ASSIGNMENT;
CREATE CAST (pg_catalog.date AS envelope.input) WITH INOUT AS ASSIGNMENT;
CREATE CAST (pg_catalog.time AS envelope.input) WITH INOUT AS ASSIGNMENT;
CREATE CAST (pg_catalog.timetz AS envelope.input) WITH INOUT AS ASSIGNMENT;
CREATE CAST (pg_catalog.timestamp AS envelope.input) WITH INOUT AS ASSIGNMENT;
CREATE CAST (pg_catalog.timestamptz AS envelope.input) WITH INOUT AS ASSIGNMENT;
CREATE CAST (pg_catalog.interval AS envelope.input) WITH INOUT AS ASSIGNMENT;
CREATE CAST (pg_catalog.uuid AS envelope.input) WITH INOUT AS ASSIGNMENT;
CREATE CAST (pg_catalog.json AS envelope.input) WITH INOUT AS ASSIGNMENT;
CREATE CAST (pg_catalog.jsonb AS envelope.input) WITH INOUT AS ASSIGNMENT;
CREATE CAST (pg_catalog.bytea AS envelope.input) WITH INOUT AS ASSIGNMENT;

-- PostgreSQL has a cast to text for these types, which gives another text than the type's output function.
CREATE FUNCTION envelope_private.input_of_bool(value boolean) RETURNS envelope.input
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp RETURN value::text::envelope.input;
COMMENT ON FUNCTION envelope_private.input_of_bool IS 'cast of boolean to envelope.input, by the text that a text column would get';

CREATE FUNCTION envelope_private.input_of_bpchar(value character) RETURNS envelope.input
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp RETURN value::text::envelope.input;
COMMENT ON FUNCTION envelope_private.input_of_bpchar IS 'cast of character to envelope.input, by the text that a text column would get';

CREATE FUNCTION envelope_private.input_of_inet(value inet) RETURNS envelope.input
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp RETURN value::text::envelope.input;
COMMENT ON FUNCTION envelope_private.input_of_inet IS 'cast of inet to envelope.input, by the text that a text column would get';

CREATE CAST (pg_catalog.bool AS envelope.input) WITH FUNCTION envelope_private.input_of_bool(boolean) AS ASSIGNMENT;
CREATE CAST (pg_catalog.bpchar AS envelope.input) WITH FUNCTION envelope_private.input_of_bpchar(character) AS ASSIGNMENT;
CREATE CAST (pg_catalog.inet AS envelope.input) WITH FUNCTION envelope_private.input_of_inet(inet) AS ASSIGNMENT;

-- The text of a float has all its digits only under this setting. A session may have another one.
CREATE FUNCTION envelope_private.input_of_float8(value double precision) RETURNS envelope.input
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1
    RETURN value::text::envelope.input;
COMMENT ON FUNCTION envelope_private.input_of_float8 IS 'cast of float8 to envelope.input, with all digits';

CREATE FUNCTION envelope_private.input_of_float4(value real) RETURNS envelope.input
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1
    RETURN value::text::envelope.input;
COMMENT ON FUNCTION envelope_private.input_of_float4 IS 'cast of float4 to envelope.input, with all digits';

CREATE CAST (pg_catalog.float8 AS envelope.input)
    WITH FUNCTION envelope_private.input_of_float8(double precision) AS ASSIGNMENT;
CREATE CAST (pg_catalog.float4 AS envelope.input)
    WITH FUNCTION envelope_private.input_of_float4(real) AS ASSIGNMENT;
