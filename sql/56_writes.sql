-- The generated triggers call these functions (plpython/pg_envelope/backend/tables/generate). None of it gives a right.

CREATE FUNCTION envelope_internal.draft_text(value text) RETURNS envelope.ciphertext
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].writes.draft_text(value)
$$;
COMMENT ON FUNCTION envelope_internal.draft_text IS
    'used by triggers: makes a draft of a text, which the base table''s guard seals once it knows the row key';

CREATE FUNCTION envelope_internal.draft_bytea(value bytea) RETURNS envelope.ciphertext
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].writes.draft_bytea(value)
$$;
COMMENT ON FUNCTION envelope_internal.draft_bytea IS
    'used by triggers: makes a draft of a bytea, which the base table''s guard seals once it knows the row key';

-- An envelope that the server cannot read is no draft. An envelope in its row can be read: no subtransaction is needed.
CREATE FUNCTION envelope_internal.is_draft(value envelope.ciphertext) RETURNS boolean
    LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF pg_catalog.pg_column_size(value) OPERATOR(pg_catalog.>) pg_catalog.octet_length(value) THEN
        RETURN pg_catalog.substr(value, 3, 4) OPERATOR(pg_catalog.=) E'\\x00000000'::pg_catalog.bytea;
    END IF;
    RETURN pg_catalog.substr(envelope_internal.readable(value), 3, 4) OPERATOR(pg_catalog.=) E'\\x00000000'::pg_catalog.bytea;
END $$;
COMMENT ON FUNCTION envelope_internal.is_draft IS
    'used by the CHECK of a base table: whether a value is a draft, which no guard has sealed; NULL for no value';

CREATE FUNCTION envelope_internal.clear_text(draft envelope.ciphertext) RETURNS text
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].writes.clear_text(draft)
$$;
COMMENT ON FUNCTION envelope_internal.clear_text IS
    'for the table''s own triggers: the text that this session is about to write';

CREATE FUNCTION envelope_internal.clear_bytea(draft envelope.ciphertext) RETURNS bytea
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].writes.clear_bytea(draft)
$$;
COMMENT ON FUNCTION envelope_internal.clear_bytea IS
    'for the table''s own triggers: the bytea that this session is about to write';

CREATE FUNCTION envelope_internal.seal_draft(envelope.ciphertext, bytea, text, text DEFAULT NULL)
    RETURNS envelope.ciphertext
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].writes.seal_draft(*args)
$$;
COMMENT ON FUNCTION envelope_internal.seal_draft IS 'used by the guard of a base table: the envelope of a draft; its arguments are the draft, the seal, the row key and the tenant or subject';

CREATE FUNCTION envelope_internal.stays(given envelope.ciphertext, stored envelope.ciphertext) RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN given IS NOT DISTINCT FROM stored;
EXCEPTION WHEN data_corrupted OR index_corrupted THEN
    -- A value that was written now can be read. A value that cannot be read is the stored value itself.
    RETURN envelope_internal.readable(given) IS NULL;
END $$;
COMMENT ON FUNCTION envelope_internal.stays IS
    'used by the guard of a base table: whether an UPDATE leaves an envelope as it is, even if the server cannot read the envelope';

CREATE FUNCTION envelope_internal.opens(value envelope.ciphertext, seal bytea, row_key text) RETURNS boolean
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].writes.opens(value, seal, row_key)
$$;
COMMENT ON FUNCTION envelope_internal.opens IS
    'used by the guard of a base table: whether an envelope opens in its place';

CREATE FUNCTION envelope_internal.fits(value envelope.ciphertext, seal bytea, row_key text) RETURNS boolean
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].writes.fits(value, seal, row_key)
$$;
COMMENT ON FUNCTION envelope_internal.fits IS
    'used by the guard of a base table: whether an envelope opens in its place, or is under a destroyed key, where nobody can tell';

CREATE FUNCTION envelope_internal.rebind(
    value envelope.ciphertext, seal bytea, old_key text, new_key text, scope text DEFAULT NULL)
    RETURNS envelope.ciphertext
    LANGUAGE plpython3u VOLATILE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].writes.rebind(value, seal, old_key, new_key, scope)
$$;
COMMENT ON FUNCTION envelope_internal.rebind IS
    'used by the guard of a base table: the same value for another row key; an envelope that does not open stays as it is';

-- It is declared IMMUTABLE, and is not. So PL/pgSQL gives it no snapshot of its own, and it sees that of the statement
-- whose trigger calls it. Its arguments are never constants.
CREATE FUNCTION envelope_internal.reading(oid, text) RETURNS xid
    LANGUAGE plpython3u IMMUTABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].writes.reading(*args)
$$;
COMMENT ON FUNCTION envelope_internal.reading IS
    'used by triggers: the oldest transaction that the firing statement takes for unfinished; NULL if the statement has met the row before. Its arguments are the table and the row key';

CREATE FUNCTION envelope_internal.unreadable(base oid) RETURNS uuid[]
    LANGUAGE plpython3u IMMUTABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].writes.unreadable(base)
$$;
COMMENT ON FUNCTION envelope_internal.unreadable IS
    'used by triggers: the fields of the present row whose envelopes do not open, while an UPDATE replaces them';

CREATE FUNCTION envelope_internal.note_update(base oid, what text) RETURNS boolean
    LANGUAGE plpython3u IMMUTABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].writes.note_update(base, what)
$$;
COMMENT ON FUNCTION envelope_internal.note_update IS
    'used by triggers: notes that an UPDATE begins or ends which may pass over values that do not open';

-- These are PL/pgSQL, because PostgreSQL calls it faster than PL/Python. An assignment needs no snapshot.
CREATE FUNCTION envelope_internal.mend_begins() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ DECLARE noted pg_catalog.bool := envelope_internal.note_update(TG_RELID, 'mend'); BEGIN RETURN NULL; END $$;
COMMENT ON FUNCTION envelope_internal.mend_begins IS
    'trigger: an UPDATE that replaces a protected value does not have to open the old one';

CREATE FUNCTION envelope_internal.mend_ends() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ DECLARE noted pg_catalog.bool := envelope_internal.note_update(TG_RELID, 'mended'); BEGIN RETURN NULL; END $$;
COMMENT ON FUNCTION envelope_internal.mend_ends IS
    'trigger: fails if the UPDATE has read, not only replaced, a value that does not open';

CREATE FUNCTION envelope_internal.erased_pass() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ DECLARE noted pg_catalog.bool := envelope_internal.note_update(TG_RELID, 'erased'); BEGIN RETURN NULL; END $$;
COMMENT ON FUNCTION envelope_internal.erased_pass IS
    'trigger: an UPDATE of a table with erased tenants or subjects passes over their values';

CREATE FUNCTION envelope_private.note_insert(view oid, name name, context text, query text) RETURNS boolean
    LANGUAGE plpython3u IMMUTABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].writes.note_insert(view, name, context, query)
$$;
COMMENT ON FUNCTION envelope_private.note_insert IS
    'used by triggers: notes whether the INSERT that begins says ON CONFLICT DO NOTHING';

CREATE FUNCTION envelope_internal.inserts_softly(view oid) RETURNS boolean
    LANGUAGE plpython3u IMMUTABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].writes.inserts_softly(view)
$$;
COMMENT ON FUNCTION envelope_internal.inserts_softly IS
    'used by triggers: whether the calling INSERT says ON CONFLICT DO NOTHING';

-- Nobody else may note an INSERT: a note makes rows disappear that the INSERT of another role gives.
CREATE FUNCTION envelope_internal.insert_begins() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    context text;
    query text := current_query();
    noted bool;
BEGIN
    GET DIAGNOSTICS context = PG_CONTEXT;
    -- Apart from current_query(), which is volatile: the assignment must run without a snapshot of its own.
    noted := envelope_private.note_insert(TG_RELID, TG_TABLE_NAME, context, query);
    RETURN NULL;
END $$;
COMMENT ON FUNCTION envelope_internal.insert_begins IS
    'trigger: finds out whether an INSERT says ON CONFLICT DO NOTHING. SECURITY DEFINER: nobody may note that by hand';

CREATE FUNCTION envelope_internal.is_retired(value envelope.ciphertext) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    found_dek bigint;
    retired boolean;
BEGIN
    IF octet_length(value) <= 5 THEN
        RETURN false;
    END IF;
    SELECT d.dek_id, fk.state <> 'active' OR d.state <> 'active' INTO found_dek, retired
        FROM envelope_private.field_key fk JOIN envelope_private.dek d USING (dek_id)
        WHERE fk.key_id = envelope_private.key_id_of(value);
    -- The snapshot of a transaction can show a key as it was before it was taken away. Then this lock of the row fails
    -- with 40001. It is not taken without need, because a rotation of the KEK would have to wait for it.
    IF NOT retired AND NOT (SELECT pg_visible_in_snapshot(r.last_value::text::xid8, pg_current_snapshot())
            FROM envelope_private.revocation_xid r) THEN
        PERFORM FROM envelope_private.dek d WHERE d.dek_id = found_dek FOR SHARE;
    END IF;
    RETURN coalesce(retired, false);
END $$;
COMMENT ON FUNCTION envelope_internal.is_retired IS
    'used by the guard of a base table: whether an envelope is under a key that was active once and is not now. SECURITY DEFINER: reads the key catalog';

CREATE FUNCTION envelope_internal.token_length(token envelope_search.token) RETURNS integer
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'byteaoctetlen';
COMMENT ON FUNCTION envelope_internal.token_length IS
    'used by the guard of a base table: the bytes of a token, which are 16 once it is stored';

CREATE FUNCTION envelope_internal.given_token(given envelope_search.token, search uuid) RETURNS envelope_search.token
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    content bytea := envelope_search.token_send(given);
BEGIN
    IF octet_length(content) = 20 AND EXISTS (
        SELECT FROM envelope_private.field_key fk JOIN envelope_private.dek d USING (dek_id)
        WHERE fk.field_uuid = search AND fk.key_id = envelope_private.key_id_of('\x0000' || content)
            AND fk.state = 'active' AND d.state = 'active')
    THEN
        RETURN '\x' || encode(substr(content, 5), 'hex');
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION envelope_internal.given_token IS
    'used by the guard of a base table: the token of a client without its key id, or NULL if that is not the active search key. SECURITY DEFINER: reads the key catalog';

CREATE FUNCTION envelope_internal.acts_on_itself(base regclass) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT EXISTS (
        SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
        WHERE t.tgrelid = base AND t.tgtype::int & 66 = 0
            AND (NOT t.tgisinternal OR p.proname ~ '^RI_FKey_(cascade|setnull|setdefault)_'));
END;
COMMENT ON FUNCTION envelope_internal.acts_on_itself IS
    'used by triggers: whether a change of one row may set off changes of others, by AFTER triggers or foreign keys';

CREATE FUNCTION envelope_internal.mark(draft envelope.ciphertext, field text) RETURNS text
    LANGUAGE plpython3u IMMUTABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].writes.mark(draft, field)
$$;
COMMENT ON FUNCTION envelope_internal.mark IS
    'used by the triggers of an upsert relation: keeps a draft while its statement runs, and returns the mark for it';

CREATE FUNCTION envelope_internal.marked(given text, field text) RETURNS envelope.ciphertext
    LANGUAGE plpython3u IMMUTABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].writes.marked(given, field)
$$;
COMMENT ON FUNCTION envelope_internal.marked IS
    'used by the triggers of an upsert relation: the draft that a mark stands for; NULL if it is a value and no mark';

-- Equality of key columns whose type has an implicit cast that a user made. For such a type PostgreSQL's own operators,
-- which are for all enums, arrays and ranges, are not the only candidates.
CREATE FUNCTION envelope_internal.same_key(one anyenum, other anyenum) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS 'enum_eq';
COMMENT ON FUNCTION envelope_internal.same_key(anyenum, anyenum) IS 'used by triggers: whether two keys are equal';
CREATE FUNCTION envelope_internal.same_key(one anyarray, other anyarray) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS 'array_eq';
COMMENT ON FUNCTION envelope_internal.same_key(anyarray, anyarray) IS 'used by triggers: whether two keys are equal';
CREATE FUNCTION envelope_internal.same_key(one anyrange, other anyrange) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS 'range_eq';
COMMENT ON FUNCTION envelope_internal.same_key(anyrange, anyrange) IS 'used by triggers: whether two keys are equal';
CREATE FUNCTION envelope_internal.same_key(one anymultirange, other anymultirange) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS 'multirange_eq';
COMMENT ON FUNCTION envelope_internal.same_key(anymultirange, anymultirange) IS 'used by triggers: whether two keys are equal';
CREATE FUNCTION envelope_internal.same_key(one record, other record) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS 'record_eq';
COMMENT ON FUNCTION envelope_internal.same_key(record, record) IS 'used by triggers: whether two keys are equal';
CREATE OPERATOR envelope_internal.=== (LEFTARG = anyenum, RIGHTARG = anyenum, FUNCTION = envelope_internal.same_key);
CREATE OPERATOR envelope_internal.=== (LEFTARG = anyarray, RIGHTARG = anyarray, FUNCTION = envelope_internal.same_key);
CREATE OPERATOR envelope_internal.=== (LEFTARG = anyrange, RIGHTARG = anyrange, FUNCTION = envelope_internal.same_key);
CREATE OPERATOR envelope_internal.=== (LEFTARG = anymultirange, RIGHTARG = anymultirange, FUNCTION = envelope_internal.same_key);
CREATE OPERATOR envelope_internal.=== (LEFTARG = record, RIGHTARG = record, FUNCTION = envelope_internal.same_key);
