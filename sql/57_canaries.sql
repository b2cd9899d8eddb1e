-- Canaries: docs/canaries.md.

CREATE VIEW envelope.canaries AS
    SELECT k.view::regclass AS relation, c.row_key, d.scope, d.dek_id,
        ARRAY(SELECT f.key_id FROM envelope_private.field_key f WHERE f.dek_id = d.dek_id ORDER BY 1) AS key_ids,
        c.note, c.planted_by, c.planted_at
    FROM envelope_private.canary c
    JOIN envelope_private.key k USING (key_uuid)
    JOIN envelope_private.dek d USING (dek_id)
    WHERE k.view IS NOT NULL
    ORDER BY k.view::text, c.planted_at, c.dek_id;
COMMENT ON VIEW envelope.canaries IS 'one row per canary; an alarm names it by its key ids';

CREATE FUNCTION envelope.plant_canary(rel regclass, "row" jsonb, note text DEFAULT NULL) RETURNS void
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].canaries.plant(rel, row, note)
$$;
COMMENT ON FUNCTION envelope.plant_canary IS
    'gives a row, which its primary key names, keys of its own: whoever opens its values raises an alarm at the broker';

CREATE FUNCTION envelope.remove_canary(rel regclass, "row" jsonb) RETURNS void
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].canaries.remove(rel, row)
$$;
COMMENT ON FUNCTION envelope.remove_canary IS 'takes a canary off the list, after its row was deleted or got other values';
