-- A superuser runs this once: psql -f protect.sql. The application's role is `app`.
CREATE TABLE customer (id uuid PRIMARY KEY, login text NOT NULL UNIQUE, email text, born date);
CALL envelope.protect('customer', '{"email": {"search": {"exact": {"normalize": "email", "unique": true}}}, "born": {}}');
-- On the view it has no right: it writes envelopes and tokens into the base table.
GRANT SELECT, INSERT, UPDATE, DELETE ON customer_encrypted TO app;
-- Each call shows a uuid. These uuids go into `fields` of the application in broker.toml.
SELECT envelope.grant_client('customer', 'email', 'app');
SELECT envelope.grant_client('customer', 'born', 'app');
SELECT envelope.grant_client_search('customer', 'email_search', 'app');
