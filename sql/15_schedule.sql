-- Schedules of rotation, and the last rotations of KEKs. State; made once. Levels without a row have the defaults of
-- envelope.schedules (sql/67_schedule.sql). Rows made by CREATE EXTENSION would collide with the rows of a restored
-- dump.

CREATE TABLE envelope_private.schedule (
    level text NOT NULL CHECK (level IN ('kek', 'dek', 'field_key', 'secret')),
    subject text,
    every interval CHECK (every > interval '0'),
    transition interval NOT NULL CHECK (transition >= interval '0'),
    grace interval NOT NULL CHECK (grace >= interval '0'),
    reencrypt boolean NOT NULL DEFAULT false,
    UNIQUE NULLS NOT DISTINCT (level, subject)
);
-- It has no primary key, and a published table must be able to say which row changed.
ALTER TABLE envelope_private.schedule REPLICA IDENTITY FULL;
COMMENT ON TABLE envelope_private.schedule IS 'schedules that envelope.set_schedule() has set';
COMMENT ON COLUMN envelope_private.schedule.subject IS
    'a KEK''s name, or for the other levels the uuid of a key, as text. NULL: all that have no row of their own';
COMMENT ON COLUMN envelope_private.schedule.every IS 'NULL: never by schedule';
COMMENT ON COLUMN envelope_private.schedule.transition IS 'how long after its due time a key may wait before it is overdue';
COMMENT ON COLUMN envelope_private.schedule.grace IS 'how long a retired version stays suspended before it may be destroyed';
COMMENT ON COLUMN envelope_private.schedule.reencrypt IS 'whether rotate_due() also brings old values to the new version';

CREATE TABLE envelope_private.kek_rotation (
    kek text PRIMARY KEY,
    kek_version integer NOT NULL,
    rotated_at timestamptz NOT NULL
);
COMMENT ON TABLE envelope_private.kek_rotation IS 'when this database last rotated a KEK; a KEK without a row was not rotated since its first DEK';

SELECT pg_catalog.pg_extension_config_dump('envelope_private.schedule', '');
SELECT pg_catalog.pg_extension_config_dump('envelope_private.kek_rotation', '');
