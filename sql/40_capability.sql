-- Capabilities, and the questions that only the extension's owner may ask: which key has a key id, who has a right?

CREATE FUNCTION envelope_private.header(suite smallint, pad boolean, key_id bigint) RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS $$ SELECT set_byte(decode('e100', 'hex'), 1, suite + CASE WHEN pad THEN 128 ELSE 0 END) || substr(int8send(key_id), 5) $$;
COMMENT ON FUNCTION envelope_private.header IS 'an envelope''s first 6 bytes: FORMAT.md section 1';

-- The sum, because << and | bind alike, from the left.
CREATE FUNCTION envelope_private.key_id_of(value bytea) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN pg_catalog.get_byte(value, 2)::bigint * 16777216 + pg_catalog.get_byte(value, 3) * 65536
    + pg_catalog.get_byte(value, 4) * 256 + pg_catalog.get_byte(value, 5);
COMMENT ON FUNCTION envelope_private.key_id_of IS
    'the key id in an envelope of 6 bytes or more: FORMAT.md section 1';

CREATE FUNCTION envelope_private.renew_seal(field uuid) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO envelope_private.capability (field_uuid, capability, view_owner)
        SELECT f.field_uuid, uuid_send(gen_random_uuid()), coalesce(c.relowner, (
            SELECT o.relowner FROM envelope_private.search s JOIN envelope_private.field p USING (field_uuid)
            JOIN envelope_private.key u USING (key_uuid) JOIN pg_class o ON o.oid = u.base
            WHERE s.search_uuid = f.field_uuid LIMIT 1))
        FROM envelope_private.field f
        JOIN envelope_private.key k USING (key_uuid) LEFT JOIN pg_class c ON c.oid = k.base
        WHERE f.field_uuid = field
        ON CONFLICT (field_uuid) DO UPDATE SET view_owner = excluded.view_owner;
    UPDATE envelope_private.capability c SET seal = (
            SELECT c.capability || CASE k.scope WHEN 'table' THEN envelope_private.header(f.suite, f.pad, fk.key_id)
                ELSE envelope_private.header(f.suite, f.pad, 0) || uuid_send(f.field_uuid) END
            FROM envelope_private.field f JOIN envelope_private.key k USING (key_uuid)
            -- Without an active key it takes the newest destroyed one. Then a write's error names that key, not a
            -- missing right.
            LEFT JOIN LATERAL (
                SELECT a.key_id FROM envelope_private.field_key a
                WHERE a.field_uuid = f.field_uuid AND a.state IN ('active', 'destroyed')
                ORDER BY a.state, a.version DESC LIMIT 1) fk ON true
            WHERE f.field_uuid = field)
        WHERE c.field_uuid = field;
END;
COMMENT ON FUNCTION envelope_private.renew_seal IS
    'makes a field''s capability if it has none, and seals with its active key; in tenant and subject scope a template';

CREATE VIEW envelope_private.usable_key AS
    SELECT u.key_id, u.field_uuid, u.salt, d.dek_id, d.kek, d.store, d.wrapped, d.fingerprint, i.database_uuid,
        CASE WHEN 'destroyed' IN (u.state, d.state) THEN 'destroyed' WHEN d.state = 'suspended' THEN d.state
            ELSE u.state END AS state,
        coalesce(k.name, k.view::text || '.' || u.attname, k.base::text || '.' || u.attname, 'dropped') AS label,
        u.scope_key, k.erased, u.bind, u.audit
    FROM (
        SELECT fk.key_id, fk.salt, fk.state, fk.dek_id, f.field_uuid, f.attname, f.key_uuid, f.bind, f.audit,
            NULL::uuid AS scope_key
        FROM envelope_private.field_key fk JOIN envelope_private.field f USING (field_uuid)
        UNION ALL
        SELECT fk.key_id, fk.salt, fk.state, fk.dek_id, f.field_uuid, f.attname, f.key_uuid, f.bind, f.audit, o.key_uuid
        FROM envelope_private.field_key fk
        JOIN envelope_private.dek o USING (dek_id)
        JOIN envelope_private.key s ON coalesce(s.scope_of, s.key_uuid) = o.key_uuid
        JOIN envelope_private.field f ON f.key_uuid = s.key_uuid
        -- Not "IS NULL", for which there is an index: while few rows are committed, PostgreSQL would read all keys by it.
        WHERE (fk.field_uuid IS NOT NULL) IS FALSE
    ) AS u
    JOIN envelope_private.key k USING (key_uuid)
    JOIN envelope_private.dek d USING (dek_id)
    CROSS JOIN envelope_private.installation i;
COMMENT ON VIEW envelope_private.usable_key IS
    'all that is needed to derive the field key of a key id; in tenant and subject scope there is a row for each field';

CREATE FUNCTION envelope_private.reads_as_user(options text[]) RETURNS boolean
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN EXISTS (SELECT FROM pg_options_to_table(options) WHERE option_name = 'security_invoker' AND option_value::boolean);
COMMENT ON FUNCTION envelope_private.reads_as_user IS
    'whether a view with these options reads with the rights of its user, in place of its owner''s';

-- The columns that a query has to have the right to are a set of numbers. A whole row is the number 0, and each number
-- is stored 7 higher, because system columns have negative ones.
CREATE FUNCTION envelope_private.reads_whole_rows(query text, relation oid) RETURNS boolean
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN query ~ format(':relid %s [^{}]*:selectedCols \(b( [0-9]+)* 7[ )]', relation);
COMMENT ON FUNCTION envelope_private.reads_whole_rows IS
    'whether the query of a view, as pg_rewrite has it, uses whole rows of a relation';

CREATE FUNCTION envelope_private.reads_through_view(role oid, relation oid, attname name) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE above (oid) AS (
        SELECT c.oid FROM pg_attribute a
        JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid
        JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid AND w.ev_class <> a.attrelid
        JOIN pg_class c ON c.oid = w.ev_class AND c.relkind = 'v'
        WHERE a.attrelid = relation AND a.attname = $3 AND NOT envelope_private.reads_as_user(c.reloptions)
            AND has_column_privilege(c.relowner, relation, $3, 'SELECT')
            AND (d.refobjsubid = a.attnum OR envelope_private.reads_whole_rows(w.ev_action::text, relation)
                -- Whole rows need the right to each column.
                AND NOT EXISTS (SELECT FROM pg_attribute n WHERE n.attrelid = relation AND n.attnum > 0
                    AND NOT n.attisdropped AND NOT has_column_privilege(c.relowner, relation, n.attnum, 'SELECT')))
        UNION
        SELECT c.oid FROM above
        JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = above.oid
        JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid AND w.ev_class <> above.oid
        JOIN pg_class c ON c.oid = w.ev_class AND c.relkind = 'v'
        -- What a view with the rights of its user reads, the user must be allowed to read without it.
        WHERE NOT envelope_private.reads_as_user(c.reloptions)
            AND has_any_column_privilege(c.relowner, above.oid, 'SELECT'))
    SELECT EXISTS (SELECT FROM above WHERE has_any_column_privilege(role, above.oid, 'SELECT'));
END;
COMMENT ON FUNCTION envelope_private.reads_through_view IS
    'whether a role may read a view that reads a column with the right of the view''s owner';
