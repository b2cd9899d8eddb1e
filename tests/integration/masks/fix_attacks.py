"""Attacks on masks as SQL, by the names that docs/attacks.md lists, and how those end that fail."""

from __future__ import annotations

LEAK = """
CREATE FUNCTION {name}({arguments}) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS
    $$ BEGIN RAISE WARNING 'leaked %', $1; RETURN true; END $$;
"""
ATTACKS = {
    "leaky_function": LEAK.format(name="leak", arguments="text")
    + "SELECT 1 FROM person WHERE leak(email) AND leak(ssn)",
    "leaky_operator": LEAK.format(name="leak2", arguments="text, text")
    + "CREATE OPERATOR <<<< (LEFTARG = text, RIGHTARG = text, FUNCTION = leak2);"
    "SELECT 1 FROM person WHERE email <<<< 'x'",
    "error_text_cast": "SELECT ssn::date FROM person",
    "error_text_division": "SELECT 1 / (paid - paid) FROM person",
    "error_text_regular_expression": "SELECT 'x' ~ ('(' || email) FROM person",
    "whole_row_json": "SELECT jsonb_path_query(to_jsonb(p), '$.*') FROM person p",
    "explain": "EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM person WHERE email LIKE 'ada%' AND ssn = 'x'",
    "masking_prepared_statements": "SET plan_cache_mode = force_generic_plan; PREPARE p AS SELECT * FROM person;"
    " EXECUTE p",
    "statistics": "SELECT most_common_vals::text, histogram_bounds::text FROM pg_stats WHERE tablename ~ 'person'",
    "masking_search_path": "CREATE FUNCTION public.pg_has_role(oid, oid, text) RETURNS bool"
    " LANGUAGE sql AS 'SELECT true'; CREATE FUNCTION public.pg_has_role(oid, regrole, text) RETURNS bool"
    " LANGUAGE sql AS 'SELECT true'; SET search_path = public, pg_catalog; SELECT * FROM person",
    "masking_search_path_operators": "CREATE FUNCTION public.eq(regrole, oid) RETURNS bool LANGUAGE sql AS"
    " 'SELECT true'; CREATE OPERATOR public.= (LEFTARG = regrole, RIGHTARG = oid, FUNCTION = public.eq);"
    " SET search_path = public, pg_catalog; SELECT * FROM person",
    "view_over_view": "CREATE VIEW mine AS SELECT * FROM person; SELECT * FROM mine",
    "security_invoker_view": "CREATE VIEW mine WITH (security_invoker) AS SELECT * FROM person; SELECT * FROM mine",
    "own_security_definer": "CREATE FUNCTION mine() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS"
    " 'SELECT email || ssn FROM person'; SELECT mine()",
    "table_function": "CREATE FUNCTION mine() RETURNS SETOF person LANGUAGE sql AS 'TABLE person'; SELECT mine()",
    "create_table_as": "CREATE TEMP TABLE t AS TABLE person; TABLE t",
    "insert_select": "INSERT INTO person SELECT id + 100, name, email, ssn FROM person; TABLE person",
    "update_of_a_clear_column": "UPDATE person SET name = email; SELECT name FROM person",
    "returning_of_update": "UPDATE person SET name = 'x' RETURNING *",
    "error_text_check": "UPDATE person SET email = replace(email, '@', '')",
    "returning_of_a_new_key": "UPDATE person SET id = id + 1000 RETURNING *",
    "returning_of_delete": "DELETE FROM person RETURNING *",
    "masking_cursors_with_hold": "BEGIN; DECLARE c CURSOR WITH HOLD FOR TABLE person; COMMIT; FETCH ALL FROM c",
    "locked_rows": "SELECT * FROM person FOR UPDATE",
    "system_columns": "SELECT tableoid, ssn FROM person",
    "sort_to_disk": "SET work_mem = '64kB'; SELECT p.email FROM person p, generate_series(1, 500) ORDER BY 1 LIMIT 1",
    "message_text": "DO $$ DECLARE r record; BEGIN FOR r IN TABLE person LOOP RAISE WARNING '%', r; END LOOP; END $$",
    "error_text_domain": "CREATE DOMAIN short AS text CHECK (length(VALUE) < 3); SELECT email::short FROM person",
    "base_table": "SELECT * FROM person_encrypted",
    "decrypt_by_hand": "SELECT envelope_internal.decrypt_text_masked("
    "'\\xe101' || repeat('a', 60)::bytea, '\\x00', '1')",
    "catalog_of_rules": "SELECT * FROM envelope_private.mask",
    "set_role": "SET ROLE bob; SELECT * FROM person",
    "session_authorization": "SET SESSION AUTHORIZATION bob; SELECT * FROM person",
    "own_mask": "SELECT envelope.mask('person', 'email', 'alice', 'clear')",
    "own_unmask": "SELECT envelope.unmask('person', 'email')",
    "own_refresh": "CALL envelope.refresh('person')",
    "insert_into_own_table": "CREATE TABLE sink (note text);"
    " INSERT INTO sink SELECT email || coalesce(ssn, '') FROM person; TABLE sink",
    "select_into": "SELECT * INTO TEMP got FROM person; TABLE got",
    "rewrite_rule": "CREATE TABLE bait (note text); CREATE RULE r AS ON INSERT TO bait DO INSTEAD SELECT * FROM person;"
    " INSERT INTO bait VALUES ('x')",
    "merge": "CREATE TEMP TABLE got (id int, note text); MERGE INTO got USING person p ON got.id = p.id"
    " WHEN NOT MATCHED THEN INSERT VALUES (p.id, p.email || coalesce(p.ssn, '')); TABLE got",
    "merge_into_the_masked_table": "MERGE INTO person p USING person q ON p.id = q.id"
    " WHEN MATCHED THEN UPDATE SET name = q.email; SELECT name FROM person",
    "on_conflict": "CREATE TEMP TABLE got (id int PRIMARY KEY, note text); INSERT INTO got SELECT id FROM person;"
    " INSERT INTO got SELECT id, email FROM person ON CONFLICT (id) DO UPDATE SET note = excluded.note; TABLE got",
    "on_conflict_in_the_masked_table": "INSERT INTO person (id, name, email) VALUES (1, 'x', 'x@y')"
    " ON CONFLICT (id) DO UPDATE SET name = person.email RETURNING *",
    "masking_cursors": "DECLARE c SCROLL CURSOR FOR SELECT * FROM person ORDER BY id; FETCH ALL FROM c;"
    " FETCH BACKWARD ALL FROM c; MOVE FIRST FROM c; FETCH RELATIVE 0 FROM c",
    "masking_cursors_of_a_function": "CREATE FUNCTION opened() RETURNS refcursor LANGUAGE plpgsql AS"
    " $$ DECLARE c refcursor := 'mine'; BEGIN OPEN c FOR TABLE person; RETURN c; END $$;"
    " SELECT opened(); FETCH ALL FROM mine",
    "returning_of_insert": "INSERT INTO person (id, name, email, ssn) SELECT id + 50, name, email, ssn FROM person"
    " RETURNING *",
    "error_text_unique": "CREATE TEMP TABLE got (note text UNIQUE); INSERT INTO got SELECT ssn FROM person;"
    " INSERT INTO got SELECT ssn FROM person",
    "sample": "SELECT * FROM person TABLESAMPLE SYSTEM (100)",
    "copy_of_the_view": "COPY person TO STDOUT",
    "copy_to_a_file": "COPY (SELECT * FROM person) TO '/tmp/copy_of_an_attack'",
    "copy_to_a_program": "COPY (SELECT * FROM person) TO PROGRAM 'cat >&2'",
}
# The other attacks run to their end. One that fails for another reason than it is meant to shows nothing.
FAILS = {
    "error_text_cast": "22007",
    "error_text_division": "22012",
    "error_text_regular_expression": "2201B",
    "error_text_check": "23514",
    "error_text_unique": "23505",
    "sample": "0A000",
    "copy_of_the_view": "42809",
    "copy_to_a_file": "42501",
    "copy_to_a_program": "42501",
    "system_columns": "42703",
    "error_text_domain": "23514",
    "base_table": "42501",
    "decrypt_by_hand": "42501",
    "catalog_of_rules": "42501",
    "set_role": "42501",
    "session_authorization": "42501",
    "own_mask": "42501",
    "own_unmask": "42501",
    "own_refresh": "42501",
    "on_conflict_in_the_masked_table": "42P10",
}
