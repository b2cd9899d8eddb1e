-- Who sees what of a protected column: docs/masks.md. State; made once.

CREATE TABLE envelope_private.mask (
    mask_uuid uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    field_uuid uuid NOT NULL,
    role regrole NOT NULL,
    kind text NOT NULL,
    arguments jsonb NOT NULL DEFAULT '{}',
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (field_uuid, role)
);
COMMENT ON TABLE envelope_private.mask IS
    'one row per rule: what a role, with its members, sees of a protected column';
COMMENT ON COLUMN envelope_private.mask.mask_uuid IS 'a rule that changes gets another one: sessions keep what they made of a rule';
COMMENT ON COLUMN envelope_private.mask.role IS '0 (-): all roles, PUBLIC';
COMMENT ON COLUMN envelope_private.mask.made_at IS 'of several rules for roles that a reader has, the oldest counts';

-- A dropped role is a number in a dump, which may be another role's where the dump is restored.
SELECT pg_catalog.pg_extension_config_dump('envelope_private.mask',
    'WHERE EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) role) OR role OPERATOR(pg_catalog.=) ''0''::pg_catalog.oid');
