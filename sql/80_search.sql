-- Search without decrypting. Who may SELECT a search column may search it; no role ever gets a token to see.

CREATE FUNCTION envelope_internal.search_token(value text, seal bytea, normalizer text) RETURNS envelope_search.token
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].search.token(value, seal, normalizer)
$$;
COMMENT ON FUNCTION envelope_internal.search_token IS
    'used by triggers: the token of a value, for a holder of the search key''s seal';

CREATE FUNCTION envelope_internal.search_token_as_role(value text, search uuid, normalizer text) RETURNS envelope_search.token
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].search.token_as_role(value, search, normalizer)
$$;
COMMENT ON FUNCTION envelope_internal.search_token_as_role IS
    'used by protect() and by jobs: the token of a value, for the owner of a table that uses the search key';

CREATE FUNCTION envelope_internal.search_grams(value text, seal bytea, normalizer text) RETURNS envelope_search.grams
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].search.grams(value, seal, normalizer)
$$;
COMMENT ON FUNCTION envelope_internal.search_grams IS
    'used by triggers: the grams of a value, for a holder of the search key''s seal';

CREATE FUNCTION envelope_internal.search_grams_as_role(value text, search uuid, normalizer text) RETURNS envelope_search.grams
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].search.grams_as_role(value, search, normalizer)
$$;
COMMENT ON FUNCTION envelope_internal.search_grams_as_role IS
    'used by protect() and by jobs: the grams of a value, for the owner of a table that uses the search key';

CREATE FUNCTION envelope_private.search_owner(search uuid) RETURNS oid
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT min(b.relowner)
    FROM envelope_private.search s JOIN envelope_private.field f USING (field_uuid)
    JOIN envelope_private.key k USING (key_uuid) JOIN pg_class b ON b.oid = k.base
    WHERE s.search_uuid = search;
END;
COMMENT ON FUNCTION envelope_private.search_owner IS 'the owner of the tables that use a search key; they have one owner';

CREATE VIEW envelope.searches AS
    SELECT t.view::regclass AS relation, c.attname AS "column", s.attname AS search_column, k.normalizer,
        n.name AS search_key, format('%I.%I', 'envelope_search', k.type_name) AS type,
        CASE WHEN s.is_filled THEN 'ready' ELSE 'being made' END AS state, s.replaces
    FROM envelope_private.search s
    JOIN envelope_private.protected_column c USING (field_uuid)
    JOIN envelope_private.protected_table t USING (key_uuid)
    JOIN envelope_private.search_key k USING (search_uuid)
    JOIN envelope_private.field f ON f.field_uuid = s.search_uuid
    JOIN envelope_private.key n ON n.key_uuid = f.key_uuid
    ORDER BY t.base, c.attnum, s.attname;
COMMENT ON VIEW envelope.searches IS
    'one row per search column: the column that it finds, how, and under which search key. One that is being made is not shown by the table yet; replaces names the search column whose place it will take';

CREATE PROCEDURE envelope.add_search(
    rel regclass, "column" name, spec jsonb DEFAULT '"exact"', batch_size integer DEFAULT 1000, pause_ms integer DEFAULT 0,
    max_lag_mb integer DEFAULT 64)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.search.add_search(rel, column, spec, batch_size, pause_ms, max_lag_mb)
$$;
COMMENT ON PROCEDURE envelope.add_search IS
    'gives a protected column another search column while the table is in use: "exact", {"exact": {"normalize": "email", ...}}, "match", "contains" or {"range": {"bucket": "month"}}. Makes tokens in transactions of about batch_size rows, and goes on where it ended early. It waits for standbys that have more than max_lag_mb to replay. Not inside a transaction';

CREATE PROCEDURE envelope.drop_search(rel regclass, "column" name, name name DEFAULT NULL)
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.search.drop_search(rel, column, name)
$$;
COMMENT ON PROCEDURE envelope.drop_search IS
    'drops a search column with its indexes and tokens, or gives up an add_search or rotate_search that ended early; name says which of several';

CREATE PROCEDURE envelope.rotate_search(
    rel regclass, "column" name, name name DEFAULT NULL, normalizer text DEFAULT NULL, batch_size integer DEFAULT 1000,
    pause_ms integer DEFAULT 0, max_lag_mb integer DEFAULT 64)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.search.rotate_search(rel, column, name, normalizer, batch_size, pause_ms, max_lag_mb)
$$;
COMMENT ON PROCEDURE envelope.rotate_search IS
    'gives a search column, and all that share its key, another key, or another normaliser, while it is searched. Makes tokens in transactions of about batch_size rows, and goes on where it ended early; name says which of several. It waits for standbys that have more than max_lag_mb to replay. Not inside a transaction';

CREATE FUNCTION envelope.grant_search(rel regclass, "column" name, role regrole) RETURNS void
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.search.grant_search(rel, column, role)
$$;
COMMENT ON FUNCTION envelope.grant_search IS
    'lets a role look rows up by the search columns of a protected column, without the right to read that column; REVOKE SELECT (...) takes the right away';

CREATE FUNCTION envelope.search_advice(
    rel regclass, "column" name, normalizer text DEFAULT 'exact', beside name DEFAULT NULL)
    RETURNS TABLE (verdict text, advice text, sampled bigint, different_values bigint, top_share double precision,
        read_share double precision, min_entropy double precision)
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.search.search_advice(rel, column, normalizer, beside)
$$;
COMMENT ON FUNCTION envelope.search_advice IS
    'measures what the tokens of a column would reveal, on up to 100,000 rows. verdict: FINE, WARN, REFUSE or UNKNOWN; top_share: the share of the most common value; read_share: the share of rows that a person reads who knows how common each value is; with beside, a person who sees that column, too';

CREATE FUNCTION envelope.slow_reads()
    RETURNS TABLE (queryid bigint, calls bigint, seconds double precision, rows bigint, "column" text, what text, instead text,
        query text)
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.search.slow_reads()
$$;
COMMENT ON FUNCTION envelope.slow_reads IS
    'statements of pg_stat_statements that compare, sort or group by a protected column, and so decrypt each row: those with the longest total time first. It reads words and no grammar; pg-envelope lint --statements is exact';
