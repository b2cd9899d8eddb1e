-- Natural keys: names and codes as primary keys, foreign keys over several columns, cascades, and views that group by them.
CREATE SCHEMA ports AUTHORIZATION owner;
GRANT USAGE ON SCHEMA ports TO alice, bob;
SET ROLE owner;
SET search_path = ports;
CREATE TABLE land (code char(2) PRIMARY KEY, name text NOT NULL UNIQUE, capital text);
CREATE TABLE port (land char(2) REFERENCES land ON UPDATE CASCADE, code text, name text COLLATE "C" NOT NULL, master text, phone text, PRIMARY KEY (land, code));
CREATE TABLE ship (imo text PRIMARY KEY CHECK (imo ~ '^\d{7}$'), name text, owner_name text, flag char(2) REFERENCES land ON UPDATE CASCADE, built int, papers bytea);
CREATE TABLE call (ship text REFERENCES ship ON DELETE CASCADE, land char(2), port text, arrived timestamp, left_at timestamp, cargo jsonb, agent text,
    PRIMARY KEY (ship, arrived), FOREIGN KEY (land, port) REFERENCES port ON UPDATE CASCADE, CHECK (left_at > arrived));
INSERT INTO land VALUES ('SE', 'Sweden', 'Stockholm'), ('DE', 'Germany', NULL), ('NL', 'Netherlands', 'Amsterdam');
INSERT INTO port SELECT (ARRAY['SE', 'DE', 'NL'])[1 + n % 3], 'P' || n, 'Port ' || n, 'Master ' || n, nullif('+' || n, '+4') FROM generate_series(1, 9) n;
INSERT INTO ship SELECT (9000000 + n)::text, 'Ship ' || n, 'Owner ' || n % 4, (ARRAY['SE', 'DE', 'NL'])[1 + n % 3], 1990 + n, decode(md5(n::text), 'hex') FROM generate_series(1, 10) n;
INSERT INTO call SELECT (9000001 + n % 10)::text, (ARRAY['SE', 'DE', 'NL'])[1 + p % 3], 'P' || p, timestamp '2024-03-01' + n * interval '7 hours', timestamp '2024-03-01' + n * interval '7 hours' + interval '3 hours', jsonb_build_object('tons', n), 'Agent ' || n % 5
    FROM generate_series(1, 40) n, LATERAL (SELECT 1 + n % 9 AS p) x;
CREATE VIEW busy AS SELECT land, port, count(*) AS calls, sum((cargo ->> 'tons')::int) AS tons FROM call GROUP BY land, port HAVING count(*) > 1;
CREATE VIEW harbours AS SELECT p.land, p.code, p.name, p.master, l.name AS land_name, b.calls FROM port p JOIN land l ON l.code = p.land LEFT JOIN busy b ON (b.land, b.port) = (p.land, p.code);
CREATE VIEW owners AS SELECT DISTINCT ON (owner_name) owner_name, name, flag FROM ship ORDER BY owner_name, built DESC;
CREATE VIEW trips AS SELECT c.ship, s.name, lag(c.port) OVER w AS came_from, c.port AS at, c.agent FROM call c JOIN ship s ON s.imo = c.ship WINDOW w AS (PARTITION BY c.ship ORDER BY c.arrived);
CREATE VIEW papers AS SELECT imo, encode(papers, 'hex') AS hex, length(papers) AS bytes FROM ship;
CREATE VIEW german WITH (check_option = local) AS SELECT * FROM port WHERE land = 'DE';
CREATE MATERIALIZED VIEW fleet AS SELECT flag, built / 10 * 10 AS decade, count(*) AS ships FROM ship GROUP BY 1, 2;
CREATE INDEX fleet_flag ON fleet (flag);
CREATE VIEW fleet_list AS SELECT l.name, f.decade, f.ships FROM fleet f JOIN land l ON l.code = f.flag;
CREATE FUNCTION last_call(ship text, OUT port text, OUT agent text) STABLE BEGIN ATOMIC SELECT c.port, c.agent FROM call c WHERE c.ship = last_call.ship ORDER BY arrived DESC LIMIT 1; END;
CREATE PROCEDURE arrive(ship text, land char(2), port text, at timestamp) BEGIN ATOMIC INSERT INTO call (ship, land, port, arrived) VALUES (ship, land, port, at); END;
GRANT SELECT ON ALL TABLES IN SCHEMA ports TO alice;
GRANT SELECT ON harbours, fleet_list TO bob;
GRANT REFERENCES ON port, ship TO alice;
RESET search_path;
RESET ROLE;
