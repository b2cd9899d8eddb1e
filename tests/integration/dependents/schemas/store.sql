-- A store: five schemas, views across them, natural and long joins, and a table whose name needs quotes.
CREATE SCHEMA person AUTHORIZATION owner; CREATE SCHEMA staff AUTHORIZATION owner; CREATE SCHEMA sales AUTHORIZATION alice;
CREATE SCHEMA goods AUTHORIZATION owner; CREATE SCHEMA buying AUTHORIZATION owner;
GRANT USAGE ON SCHEMA person, staff, sales, goods, buying TO owner, alice, bob;
GRANT CREATE ON SCHEMA sales TO owner;
SET ROLE owner;
CREATE DOMAIN person.phone AS varchar(25) CHECK (VALUE ~ '^[+0-9 ]+$');
CREATE TABLE person.contact (
    id int PRIMARY KEY, title varchar(8), first_name varchar(50) NOT NULL, middle_name varchar(50), last_name varchar(50) NOT NULL,
    email varchar(80), phone person.phone, wants_mail int DEFAULT 0 CHECK (wants_mail BETWEEN 0 AND 2), extra xml,
    rowguid uuid DEFAULT 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', changed timestamp DEFAULT '2024-01-01',
    CONSTRAINT named CHECK (length(last_name) > 0));
CREATE TABLE person."Home Address" (
    id int PRIMARY KEY, contact int NOT NULL REFERENCES person.contact, line varchar(60) NOT NULL, city varchar(30), post_code varchar(15),
    place point);
CREATE TABLE staff.employee (
    contact int PRIMARY KEY REFERENCES person.contact, national_id varchar(15) NOT NULL UNIQUE, job text, born date CHECK (born < '2010-01-01'),
    manager int REFERENCES staff.employee, salary numeric(10,2));
CREATE TABLE staff.vacancy (id int PRIMARY KEY, job text, wage numeric(10,2), summary text);
CREATE TABLE goods.product (id int PRIMARY KEY, name text NOT NULL, cost numeric(10,2), price numeric(10,2));
CREATE TABLE buying.vendor (id int PRIMARY KEY, name text, account varchar(20), contact int REFERENCES person.contact);
CREATE TABLE sales.card (id int PRIMARY KEY, kind text, number varchar(25) NOT NULL, expires date);
CREATE TABLE sales.orders (
    id int PRIMARY KEY, buyer int NOT NULL REFERENCES person.contact, seller int REFERENCES staff.employee, card int REFERENCES sales.card,
    product int REFERENCES goods.product, amount numeric(12,2), ordered date, note text);

INSERT INTO person.contact SELECT n, nullif('Ms', CASE WHEN n % 3 = 0 THEN 'Ms' END), 'F' || n, nullif('M' || n % 4, 'M2'), 'L' || n, 'c' || n || '@store.example', '+1 ' || n, n % 3, ('<x n="' || n || '"/>')::xml FROM generate_series(1, 25) n;
INSERT INTO person."Home Address" SELECT n, 1 + n % 25, 'Line ' || n, (ARRAY['Bonn', 'Graz', NULL])[1 + n % 3], n || '-X', point(n, n) FROM generate_series(1, 30) n;
INSERT INTO staff.employee SELECT n, 'N' || n, (ARRAY['clerk', 'boss'])[1 + n % 2], date '1970-01-01' + n, CASE WHEN n > 1 THEN 1 END, n * 1000 FROM generate_series(1, 8) n;
INSERT INTO staff.vacancy VALUES (1, 'clerk', 900, 'x');
INSERT INTO goods.product SELECT n, 'P' || n, n, n * 1.5 FROM generate_series(1, 6) n;
INSERT INTO buying.vendor SELECT n, 'V' || n, 'ACC' || n, 20 + n FROM generate_series(1, 4) n;
INSERT INTO sales.card SELECT n, 'visa', '4000 ' || n, date '2027-01-01' + n FROM generate_series(1, 10) n;
INSERT INTO sales.orders SELECT n, 1 + n % 25, 1 + n % 8, nullif(n % 11, 0), 1 + n % 6, n * 2.5, date '2024-01-01' + n, nullif('note ' || n, 'note 3') FROM generate_series(1, 60) n;

CREATE VIEW staff.people AS
    SELECT e.contact, c.title, c.first_name, c.middle_name, c.last_name, e.job, c.phone, c.email, a.line, a.city
    FROM staff.employee e JOIN person.contact c ON c.id = e.contact LEFT JOIN person."Home Address" a ON a.contact = c.id;
CREATE VIEW staff.bosses AS
    WITH RECURSIVE up AS (SELECT contact, manager, 0 AS depth FROM staff.employee UNION ALL
        SELECT u.contact, e.manager, depth + 1 FROM up u JOIN staff.employee e ON e.contact = u.manager WHERE depth < 4)
    SELECT p.last_name, max(up.depth) AS depth FROM up JOIN staff.people p USING (contact) GROUP BY p.last_name;
CREATE VIEW staff.wages WITH (security_barrier) AS SELECT job, avg(salary) AS wage, count(*) FILTER (WHERE born < '1970-01-04') AS old FROM staff.employee GROUP BY job;
CREATE VIEW staff.jobs AS SELECT job FROM staff.employee UNION SELECT job FROM staff.vacancy;
CREATE VIEW person.extras AS SELECT c.id, (xpath('/x/@n', c.extra))[1]::text AS n FROM person.contact c WHERE c.extra IS NOT NULL;
CREATE VIEW buying.vendors AS SELECT v.id, v.name, c.first_name, c.last_name, c.phone, t.n FROM buying.vendor v LEFT JOIN person.contact c ON c.id = v.contact LEFT JOIN person.extras t ON t.id = c.id;
CREATE RULE log AS ON DELETE TO sales.orders DO ALSO UPDATE sales.card SET kind = 'used' WHERE id = old.card;
CREATE VIEW goods.margins AS SELECT name, price - cost AS margin FROM goods.product;
GRANT SELECT ON ALL TABLES IN SCHEMA person, staff, goods, buying, sales TO alice;
GRANT SELECT ON staff.wages, buying.vendors TO bob;
SET ROLE alice;
CREATE VIEW sales.buyers AS SELECT c.id, c.first_name, c.last_name, sum(o.amount) AS spent FROM person.contact c JOIN sales.orders o ON o.buyer = c.id GROUP BY c.id, c.first_name, c.last_name;
CREATE VIEW sales.by_seller AS
    SELECT * FROM (SELECT p.last_name, extract(year FROM o.ordered) AS year, o.amount FROM sales.orders o JOIN staff.people p ON p.contact = o.seller) s
    WHERE amount > 5;
CREATE VIEW sales.cards AS SELECT o.id, right(c.number, 4) AS ends, c.expires FROM sales.orders o LEFT JOIN sales.card c ON c.id = o.card;
CREATE VIEW sales.all_in_one AS
    SELECT b.last_name, b.spent, c.ends, m.margin, a.line, w.wage FROM sales.buyers b JOIN sales.orders o ON o.buyer = b.id JOIN sales.cards c ON c.id = o.id
    JOIN goods.product p ON p.id = o.product JOIN goods.margins m USING (name) LEFT JOIN person."Home Address" a ON a.contact = b.id
    LEFT JOIN staff.employee e ON e.contact = o.seller LEFT JOIN staff.wages w USING (job);
CREATE MATERIALIZED VIEW sales.cities AS SELECT a.city, count(*) AS homes FROM person."Home Address" a GROUP BY a.city;
GRANT SELECT ON sales.all_in_one, sales.cities TO bob;
RESET ROLE;
