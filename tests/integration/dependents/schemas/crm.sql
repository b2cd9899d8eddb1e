-- A customer service for several tenants: each table has the tenant in its key, and rules, triggers and views write.
CREATE SCHEMA crm AUTHORIZATION owner;
GRANT USAGE ON SCHEMA crm TO alice, bob;
SET ROLE owner;
SET search_path = crm;
CREATE TABLE tenant (id uuid PRIMARY KEY, name text NOT NULL);
CREATE TABLE account (tenant uuid REFERENCES tenant, id int, name text NOT NULL, vat text, PRIMARY KEY (tenant, id), UNIQUE (tenant, name));
CREATE TABLE lead (
    tenant uuid, id int, account int, name text NOT NULL, email text NOT NULL, phone text, score int DEFAULT 0 CHECK (score BETWEEN 0 AND 100), tags text[] DEFAULT '{}',
    settings jsonb DEFAULT '{}', created timestamptz DEFAULT '2024-05-05', PRIMARY KEY (tenant, id), FOREIGN KEY (tenant, account) REFERENCES account, UNIQUE (tenant, email));
CREATE TABLE note (tenant uuid, id int, lead int, body text, PRIMARY KEY (tenant, id), FOREIGN KEY (tenant, lead) REFERENCES lead ON DELETE CASCADE);
CREATE TABLE outbox (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant uuid, topic text, payload jsonb);
INSERT INTO tenant SELECT ('00000000-0000-4000-8000-00000000000' || n)::uuid, 'Tenant ' || n FROM generate_series(1, 3) n;
INSERT INTO account SELECT t.id, n, 'Account ' || n, nullif('VAT' || n, 'VAT2') FROM tenant t, generate_series(1, 4) n;
INSERT INTO lead SELECT t.id, n, nullif(n % 5, 0), 'Lead ' || n, 'lead' || n || '@' || right(t.id::text, 1) || '.example', nullif('+49 ' || n, '+49 4'), n * 7 % 100, ARRAY['new', 'x' || n % 3], jsonb_build_object('n', n) FROM tenant t, generate_series(1, 12) n;
INSERT INTO note SELECT tenant, id, id, 'called ' || name FROM lead WHERE id % 2 = 0;

CREATE VIEW pipeline AS
    SELECT t.name AS tenant, l.tenant AS tenant_id, l.id, l.name, l.email, a.name AS account, l.score, (SELECT count(*) FROM note n WHERE (n.tenant, n.lead) = (l.tenant, l.id)) AS notes
    FROM lead l JOIN tenant t ON t.id = l.tenant LEFT JOIN account a ON (a.tenant, a.id) = (l.tenant, l.account);
CREATE VIEW scores AS SELECT tenant, width_bucket(score, 0, 100, 4) AS quarter, count(*) AS leads FROM lead GROUP BY 1, 2;
CREATE VIEW tags AS SELECT l.tenant, g.tag, count(*) AS leads FROM lead l, unnest(l.tags) g (tag) GROUP BY 1, 2;
CREATE VIEW my_leads WITH (security_barrier) AS SELECT * FROM lead WHERE tenant = nullif(current_setting('crm.tenant', true), '')::uuid WITH CHECK OPTION;
CREATE VIEW contacts AS SELECT 'lead' AS kind, tenant, name, email FROM lead UNION ALL SELECT 'account', tenant, name, NULL FROM account;
CREATE VIEW found AS SELECT c.kind, c.name, p.account FROM contacts c LEFT JOIN pipeline p ON p.email = c.email;
CREATE MATERIALIZED VIEW totals AS SELECT s.tenant, sum(s.leads) AS leads, max(s.quarter) AS best FROM scores s GROUP BY s.tenant;
CREATE UNIQUE INDEX ON totals (tenant);
CREATE VIEW dashboard AS SELECT t.name, x.leads, x.best FROM tenant t JOIN totals x ON x.tenant = t.id;
CREATE VIEW inbox AS SELECT n.tenant, n.id, n.body, l.name FROM note n JOIN lead l ON (l.tenant, l.id) = (n.tenant, n.lead);
CREATE FUNCTION take() RETURNS trigger LANGUAGE plpgsql SET search_path = crm AS
    'BEGIN INSERT INTO note VALUES (NEW.tenant, NEW.id, (SELECT id FROM lead l WHERE l.tenant = NEW.tenant AND l.name = NEW.name), NEW.body); RETURN NEW; END';
CREATE TRIGGER take INSTEAD OF INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION take();
CREATE RULE published AS ON DELETE TO account DO ALSO INSERT INTO outbox (tenant, topic, payload) SELECT l.tenant, 'lead', to_jsonb(l.email) FROM lead l WHERE (l.tenant, l.account) = (old.tenant, old.id);
CREATE RULE rename AS ON UPDATE TO dashboard DO INSTEAD UPDATE lead SET name = new.name WHERE name = old.name;
CREATE FUNCTION as_row(lead) RETURNS jsonb STABLE LANGUAGE sql AS 'SELECT jsonb_build_object(''n'', $1.name, ''e'', $1.email)';
CREATE FUNCTION leads_of(uuid) RETURNS SETOF lead STABLE BEGIN ATOMIC SELECT l FROM lead l WHERE l.tenant = $1 ORDER BY id; END;
CREATE VIEW exported AS SELECT t.name, as_row(l) AS row FROM tenant t, LATERAL leads_of(t.id) l;
CREATE STATISTICS crm.lead_names (ndistinct) ON name, email FROM lead;
CREATE FUNCTION stamped() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.created := NEW.created; RETURN NEW; END';
CREATE TRIGGER stamped BEFORE INSERT OR UPDATE OF email ON lead FOR EACH ROW EXECUTE FUNCTION stamped();
GRANT SELECT, INSERT, UPDATE, DELETE ON my_leads, inbox TO bob;
GRANT SELECT ON pipeline, dashboard, exported TO bob;
RESET search_path;
RESET ROLE;
