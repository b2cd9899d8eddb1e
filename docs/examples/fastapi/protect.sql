-- A superuser runs this once: psql -f protect.sql. The application's role is `app`.
CREATE TABLE customer (id serial PRIMARY KEY, login text NOT NULL UNIQUE, email text UNIQUE, born date);
GRANT SELECT, INSERT, UPDATE, DELETE ON customer TO app;
GRANT USAGE ON SEQUENCE customer_id_seq TO app;
CALL envelope.protect('customer', '["email", "born"]');
CALL envelope.allow_upsert('customer');
