-- Rotation by schedule: the schedules, the keys that are due, and the procedure that rotates them (docs/schedules.md).

CREATE VIEW envelope_private.schedule_in_force AS
    SELECT p.level, p.subject, p.every, p.transition, p.grace, p.reencrypt FROM envelope_private.schedule p
    UNION ALL
    SELECT d.level, NULL, d.every, d.transition, interval '24 hours', false
    FROM (VALUES ('kek', interval '365 days', interval '30 days'), ('dek', interval '90 days', interval '1 day'),
        ('field_key', interval '30 days', interval '1 day')) d (level, every, transition)
    WHERE NOT EXISTS (SELECT FROM envelope_private.schedule p WHERE p.level = d.level AND p.subject IS NULL);
COMMENT ON VIEW envelope_private.schedule_in_force IS 'the schedules that were set, and the defaults of all other levels';

CREATE VIEW envelope.schedules AS
    SELECT p.level,
        CASE WHEN p.subject IS NULL OR p.level = 'kek' THEN p.subject
            ELSE coalesce(k.name, t.view_name, 'dropped') END AS subject,
        p.every, p.transition, p.grace, p.reencrypt
    FROM envelope_private.schedule_in_force p
    LEFT JOIN envelope_private.key k ON p.level <> 'kek' AND k.key_uuid::text = p.subject
    LEFT JOIN envelope_private.protected_table t USING (key_uuid)
    ORDER BY array_position(ARRAY['kek', 'dek', 'field_key', 'secret'], p.level), p.subject NULLS FIRST;
COMMENT ON VIEW envelope.schedules IS 'how often keys are rotated; subject NULL: all keys of the level that have no row of their own';

-- Tenant and subject scope have a DEK for each tenant or subject. These DEKs are not rotated by schedule.
CREATE VIEW envelope_private.rotation AS
    SELECT 'kek' AS level, k.kek AS subject, NULL::uuid AS key_uuid, NULL::name AS attname, k.kek AS label,
        coalesce(r.rotated_at, k.first_used) AS last_rotated,
        format('CALL envelope.rotate_kek(%L)', k.kek) AS command
    FROM (SELECT kek, min(created_at) AS first_used FROM envelope_private.dek WHERE state <> 'destroyed' GROUP BY kek) k
    LEFT JOIN envelope_private.kek_rotation r USING (kek)
    UNION ALL
    SELECT 'dek', k.key_uuid::text, k.key_uuid, NULL, coalesce(k.name, t.view_name), d.created_at,
        CASE WHEN k.name IS NULL THEN format('SELECT envelope.rotate(%L)', t.view_name)
            ELSE format('SELECT envelope.rotate_key(%L)', k.name) END
    FROM envelope_private.key k JOIN envelope_private.dek d USING (key_uuid)
    LEFT JOIN envelope_private.protected_table t USING (key_uuid)
    WHERE d.state = 'active' AND k.scope = 'table' AND coalesce(k.name, t.view_name) IS NOT NULL
        -- A new search key would make other tokens than those in the rows.
        AND NOT EXISTS (SELECT FROM envelope_private.field f WHERE f.key_uuid = k.key_uuid AND f.bind = 'search')
    UNION ALL
    SELECT 'field_key', k.key_uuid::text, k.key_uuid, c.attname, c.label, fk.created_at,
        format('SELECT envelope.rotate_field(%L, %L)', t.view_name, c.attname)
    FROM envelope_private.protected_column c JOIN envelope_private.key k USING (key_uuid)
    JOIN envelope_private.protected_table t USING (key_uuid)
    JOIN envelope_private.field_key fk USING (field_uuid)
    WHERE fk.state = 'active' AND k.scope = 'table' AND t.view_name IS NOT NULL
    UNION ALL
    SELECT 'secret', k.key_uuid::text, k.key_uuid, NULL, k.name, s.created_at,
        format('SELECT envelope.replace_secret(%L, ...)', k.name)
    FROM envelope_private.key k
    JOIN (SELECT key_uuid, max(created_at) AS created_at FROM envelope_private.secret GROUP BY key_uuid) s USING (key_uuid);
COMMENT ON VIEW envelope_private.rotation IS 'everything that can have a schedule, with the time of its last rotation, and the call that rotates it';

-- A time in the future was written by a clock that was wrong. Up to `every` it counts as it is, so that a clock set
-- back makes nothing due twice; beyond that it would postpone the rotation for ever.
CREATE VIEW envelope_private.scheduled AS
    SELECT r.*, p.every, p.transition, p.reencrypt,
        CASE WHEN r.last_rotated > now() + p.every THEN now() ELSE r.last_rotated + p.every END AS due_at
    FROM envelope_private.rotation r
    JOIN LATERAL (
        SELECT * FROM envelope_private.schedule_in_force p
        WHERE p.level = r.level AND (p.subject = r.subject OR p.subject IS NULL) ORDER BY p.subject NULLS LAST LIMIT 1) p
        ON p.every IS NOT NULL;
COMMENT ON VIEW envelope_private.scheduled IS 'the rows of rotation, each with its schedule and its due time';

CREATE VIEW envelope.due AS
    SELECT level, label AS subject, last_rotated, due_at,
        CASE WHEN due_at + transition < now() THEN now() - due_at - transition END AS overdue, command
    FROM envelope_private.scheduled
    ORDER BY due_at, label;
COMMENT ON VIEW envelope.due IS
    'when each key is due for its next rotation; overdue: how much later than its schedule allows it is';

CREATE FUNCTION envelope_private.schedule_subject(level text, subject text) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    key_uuid text;
BEGIN
    IF subject IS NULL OR level = 'kek' THEN
        RETURN subject;
    END IF;
    SELECT k.key_uuid::text INTO key_uuid FROM envelope_private.key k
        WHERE k.name = subject OR subject IN (k.view::text, k.base::text) ORDER BY k.name IS NULL DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = 'there is no key and no protected table of this name',
            HINT = 'Write the name as envelope.keys shows it, with its schema: public.customer.';
    END IF;
    RETURN key_uuid;
END $$;
COMMENT ON FUNCTION envelope_private.schedule_subject IS 'the lasting name of a schedule''s subject: a KEK''s name, or a key''s uuid';

CREATE FUNCTION envelope.set_schedule(level text, every interval, subject text DEFAULT NULL,
    transition interval DEFAULT NULL, grace interval DEFAULT NULL, reencrypt boolean DEFAULT NULL) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO envelope_private.schedule AS p (level, subject, every, transition, grace, reencrypt)
        SELECT $1, envelope_private.schedule_subject($1, $3), $2, coalesce($4, f.transition, interval '0'),
            coalesce($5, f.grace, interval '24 hours'), coalesce($6, f.reencrypt, false)
        FROM (SELECT) one LEFT JOIN LATERAL (
            SELECT * FROM envelope_private.schedule_in_force f
            WHERE f.level = $1 AND (f.subject IS NULL OR f.subject = envelope_private.schedule_subject($1, $3))
            ORDER BY f.subject NULLS LAST LIMIT 1) f ON true
        ON CONFLICT (level, subject) DO UPDATE SET every = excluded.every, transition = excluded.transition,
            grace = excluded.grace, reencrypt = excluded.reencrypt;
END;
COMMENT ON FUNCTION envelope.set_schedule IS
    'sets how often the keys of a level (kek, dek, field_key, secret), or of one KEK, table or named key, are rotated. every NULL: never by schedule. An argument that is left out changes nothing';

CREATE FUNCTION envelope.drop_schedule(level text, subject text DEFAULT NULL) RETURNS boolean
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH gone AS (
        DELETE FROM envelope_private.schedule p
        WHERE p.level = $1 AND p.subject IS NOT DISTINCT FROM envelope_private.schedule_subject($1, $2) RETURNING p.level)
    SELECT EXISTS (SELECT FROM gone);
END;
COMMENT ON FUNCTION envelope.drop_schedule IS 'removes a schedule. Then the level''s own schedule counts, or its default. False if no schedule was set';

CREATE PROCEDURE envelope.rotate_due(dry_run boolean DEFAULT false)
    LANGUAGE plpython3u AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].admin.jobs.rotate_due(dry_run)
$$;
COMMENT ON PROCEDURE envelope.rotate_due IS
    'rotates each key that is due in envelope.due, in a transaction of its own, and names at the end the keys that failed. Not inside a transaction';
