-- Masks: docs/masks.md. A view calls mask_of() in a sub-select that PostgreSQL runs once for each execution of a plan. The
-- token of the execution ends with the rule that holds for the reading role, and each value is then read with this token.

-- A function with SET takes 10 us longer, and every masked statement calls this one. So each name in it is qualified.
CREATE FUNCTION envelope_internal.mask_of(field uuid, reader name) RETURNS uuid
    LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
BEGIN
    RETURN coalesce((
        SELECT CASE WHEN pg_catalog.pg_has_role($2, c.view_owner, 'USAGE')
            THEN '00000000-0000-0000-0000-000000000000'::pg_catalog.uuid ELSE (
                SELECT CASE WHEN m.kind OPERATOR(pg_catalog.=) 'clear'::pg_catalog.text
                    THEN '00000000-0000-0000-0000-000000000000'::pg_catalog.uuid ELSE m.mask_uuid END
                FROM envelope_private.mask m
                WHERE m.field_uuid OPERATOR(pg_catalog.=) $1 AND (m.role OPERATOR(pg_catalog.=) 0::pg_catalog.oid
                    OR pg_catalog.pg_has_role($2, m.role, 'USAGE'))
                ORDER BY m.role OPERATOR(pg_catalog.=) 0::pg_catalog.oid,
                    m.kind OPERATOR(pg_catalog.<>) 'clear'::pg_catalog.text, m.made_at, m.mask_uuid LIMIT 1) END
        FROM envelope_private.capability c WHERE c.field_uuid OPERATOR(pg_catalog.=) $1),
        'ffffffff-ffff-ffff-ffff-ffffffffffff'::pg_catalog.uuid);
END $$;
COMMENT ON FUNCTION envelope_internal.mask_of IS
    'the rule that decides what a role sees of a column; all zeros: the value itself; all ones: there is no rule, and nothing can be read. SECURITY DEFINER: reads the rules';

CREATE FUNCTION envelope_internal.sees_mask(field uuid) RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN envelope_internal.mask_of(field, current_user)
        IS DISTINCT FROM '00000000-0000-0000-0000-000000000000';
END $$;
COMMENT ON FUNCTION envelope_internal.sees_mask IS
    'used by triggers: whether the current role sees a mask of a column, or nothing';

CREATE FUNCTION envelope_internal.decrypt_text_masked(envelope.ciphertext, bytea, text) RETURNS text
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].decrypt_text_masked(*args)
$$;
COMMENT ON FUNCTION envelope_internal.decrypt_text_masked(envelope.ciphertext, bytea, text) IS
    'used by views of masked columns: the text in an envelope, or its mask; its arguments are the envelope, the token and the row key';

CREATE FUNCTION envelope_internal.decrypt_bytea_masked(envelope.ciphertext, bytea, text) RETURNS bytea
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].decrypt_bytea_masked(*args)
$$;
COMMENT ON FUNCTION envelope_internal.decrypt_bytea_masked(envelope.ciphertext, bytea, text) IS
    'used by views of masked columns: the bytea in an envelope, or its mask; its arguments are the envelope, the token and the row key';

CREATE FUNCTION envelope_internal.shown_as(value envelope.ciphertext, token bytea, row_key text, field uuid) RETURNS text[]
    LANGUAGE plpython3u STABLE AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
return GD['pg_envelope'].shown_as(value, token, row_key, field)
$$;
COMMENT ON FUNCTION envelope_internal.shown_as IS
    'used by triggers: all that any role may see of a value, for a holder of the capability who sees the value itself';

CREATE FUNCTION envelope.mask(rel regclass, "column" name, role name, kind text, arguments jsonb DEFAULT '{}') RETURNS void
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.reads.mask(rel, column, role, kind, arguments)
$$;
COMMENT ON FUNCTION envelope.mask IS
    'decides what a role, or public, sees of a protected column: clear, null, text, hash, partial, email, phone, pan, iban, year, bucket or noise. The first rule of a column is that for public';

CREATE FUNCTION envelope.unmask(rel regclass, "column" name, role name DEFAULT NULL) RETURNS void
    LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.reads.unmask(rel, column, role)
$$;
COMMENT ON FUNCTION envelope.unmask IS
    'takes the rule of a role back; without a role all rules of the column, so that every reader sees its values';

CREATE VIEW envelope.masks AS
    SELECT c.view::regclass AS relation, c.attname AS "column",
        CASE m.role WHEN 0::oid THEN 'public' ELSE m.role::text END AS role, m.kind, m.arguments, m.made_at
    FROM envelope_private.mask m JOIN envelope_private.protected_column c USING (field_uuid)
    ORDER BY c.base, c.attnum, m.role = 0::oid, m.kind <> 'clear', m.made_at, m.mask_uuid;
COMMENT ON VIEW envelope.masks IS
    'one row per rule; of the rules of a column the first one counts whose role the reader has';
