-- The ledger of reads: docs/ledger.md. A view makes a token in a sub-select that PostgreSQL runs once for each execution
-- of a plan: the capability, the field and read_id(). The first value that is read with a new token has the event written.

CREATE FUNCTION envelope_internal.read_id() RETURNS bytea LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN pg_catalog.timestamptz_send(pg_catalog.clock_timestamp());
END $$;
COMMENT ON FUNCTION envelope_internal.read_id IS
    'used by views of audited columns: 8 bytes that tell one execution of a statement from the others of its session. STABLE, because PostgreSQL does not pull up a view that calls a VOLATILE function';

CREATE FUNCTION envelope_internal.decrypt_text_audited(envelope.ciphertext, bytea, text) RETURNS text
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].decrypt_text_audited(*args)
$$;
COMMENT ON FUNCTION envelope_internal.decrypt_text_audited(envelope.ciphertext, bytea, text) IS
    'used by views of audited columns: the text in an envelope; its arguments are the envelope, the token and the row key';

CREATE FUNCTION envelope_internal.decrypt_bytea_audited(envelope.ciphertext, bytea, text) RETURNS bytea
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].decrypt_bytea_audited(*args)
$$;
COMMENT ON FUNCTION envelope_internal.decrypt_bytea_audited(envelope.ciphertext, bytea, text) IS
    'used by views of audited columns: the bytea in an envelope; its arguments are the envelope, the token and the row key';

CREATE PROCEDURE envelope.set_audit(rel regclass, "column" name, level text)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.reads.set_audit(rel, column, level)
$$;
COMMENT ON PROCEDURE envelope.set_audit IS
    'decides what the ledger of reads holds of each read of a protected column: none, statement, row or sync. Not inside a transaction';

CREATE PROCEDURE envelope.set_audit_key(name text, level text)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.reads.set_audit_key(name, level)
$$;
COMMENT ON PROCEDURE envelope.set_audit_key IS
    'decides what the ledger of reads holds of each use of a named key or secret that decrypts: none, statement, row or sync. Not inside a transaction';

CREATE PROCEDURE envelope.set_limit(
    rel regclass, "column" name, rows integer, per interval DEFAULT '1 minute', action text DEFAULT 'refuse')
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.reads.set_limit(rel, column, rows, per, action)
$$;
COMMENT ON PROCEDURE envelope.set_limit IS
    'bounds how many values of an audited column one session user may read in a time: beyond, action refuse or alarm. rows NULL ends the limit. Not inside a transaction';
