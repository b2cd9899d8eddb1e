-- Tables, for DBAs. Not SECURITY DEFINER: all of them meet the table owner's code. Those that commit have no SET
-- either: a SET clause ends with the routine, not with the caller's transaction.

CREATE PROCEDURE envelope.protect(
    rel regclass, columns jsonb, kek text DEFAULT 'default', store text DEFAULT NULL, scope text DEFAULT 'table',
    scope_column name DEFAULT NULL, scope_of regclass DEFAULT NULL, erased text DEFAULT 'error',
    keep_copies boolean DEFAULT false, dry_run boolean DEFAULT false, online boolean DEFAULT false,
    batch_size integer DEFAULT 200, pause_ms integer DEFAULT 0)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.protect(rel, columns, kek, store, scope, scope_column, scope_of, erased, keep_copies, dry_run, online, batch_size, pause_ms)
$$;
COMMENT ON PROCEDURE envelope.protect IS
    'encrypts columns of a table: ["email", ...] or {"email": {"bind": "row"|"column", "suite": 1, "pad": true}, ...}. keep_copies: materialized views may hold the columns in the clear. dry_run: only print envelope.plan(). With online => true the table stays in use: it commits after about batch_size rows, and called again it goes on. Not inside a transaction then';

CREATE PROCEDURE envelope.protect_tables(
    tables jsonb, kek text DEFAULT 'default', store text DEFAULT NULL, keep_copies boolean DEFAULT false)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.protect_tables(tables, kek, store, keep_copies)
$$;
COMMENT ON PROCEDURE envelope.protect_tables IS
    'protects several tables in one transaction, and carries over the foreign keys between their protected columns. tables has for each table what columns is for protect(): {"customer": ["email"], "invoice": {"customer_email": {}}}';

CREATE FUNCTION envelope.plan(
    rel regclass, columns jsonb, scope text DEFAULT 'table', scope_column name DEFAULT NULL, scope_of regclass DEFAULT NULL,
    keep_copies boolean DEFAULT false)
    RETURNS TABLE (step text, object text, detail text)
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.plan(rel, columns, scope, scope_column, scope_of, keep_copies)
$$;
COMMENT ON FUNCTION envelope.plan IS
    'what protect() would do with a table: obstacles, locks, rows, bytes, time, statements, dependents, and what will be different. It changes nothing';

CREATE PROCEDURE envelope.unprotect(
    rel regclass, damaged text DEFAULT 'error', online boolean DEFAULT false, batch_size integer DEFAULT 200,
    pause_ms integer DEFAULT 0)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.unprotect(rel, damaged, online, batch_size, pause_ms)
$$;
COMMENT ON PROCEDURE envelope.unprotect IS
    'turns a protected table back into a plain one; damaged => ''null'' writes NULL for values that nobody can open any more. With online => true the table stays in use: it commits after about batch_size rows, and called again it goes on. It also takes back a protect(online) that is not at its end';

CREATE PROCEDURE envelope.refresh(rel regclass)
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.refresh(rel)
$$;
COMMENT ON PROCEDURE envelope.refresh IS
    'makes view and triggers again after ALTER TABLE on the base table: new or renamed columns, another owner';

CREATE PROCEDURE envelope.reencrypt(
    rel regclass, batch_size integer DEFAULT 1000, pause_ms integer DEFAULT 0, part integer DEFAULT 1,
    parts integer DEFAULT 1, newest_first boolean DEFAULT false)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.reencrypt(rel, batch_size, pause_ms, part, parts, newest_first)
$$;
COMMENT ON PROCEDURE envelope.reencrypt IS
    'brings old values to the newest key version, in transactions of about batch_size rows, and makes a receipt. Values that do not open are left, with a warning. With parts, several sessions can each take a part. Not inside a transaction';

CREATE FUNCTION envelope.status() RETURNS TABLE (check_name text, state text, detail text, hint text)
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].admin.status()
$$;
COMMENT ON FUNCTION envelope.status IS 'one row per check: its state (ok, warning or failed), detail and hint';
