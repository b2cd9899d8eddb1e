-- Who may have field keys outside the server. State; made once.

CREATE TABLE envelope_private.client_grant (
    field_uuid uuid NOT NULL,
    role regrole NOT NULL,
    granted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (field_uuid, role)
);
COMMENT ON TABLE envelope_private.client_grant IS
    'the roles, with their members, that may read what a client needs to seal and open values of a field outside the server';

-- A dropped role is a number in a dump, which may be another role's where the dump is restored.
SELECT pg_catalog.pg_extension_config_dump(
    'envelope_private.client_grant', 'WHERE EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) role)');
