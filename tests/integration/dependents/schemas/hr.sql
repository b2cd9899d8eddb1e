-- Personnel: row-level security, an audit trigger, CHECKs over several columns, and policies that read other tables.
CREATE SCHEMA hr AUTHORIZATION owner;
GRANT USAGE ON SCHEMA hr TO alice, bob;
SET ROLE owner;
SET search_path = hr;
CREATE TABLE unit (id int PRIMARY KEY, name text NOT NULL, head text);
CREATE TABLE employee (
    id int PRIMARY KEY, login name NOT NULL UNIQUE, unit int NOT NULL REFERENCES unit, full_name text NOT NULL, ssn char(11) CHECK (ssn ~ '^\d{3}-\d\d-\d{4}$'),
    salary numeric(10,2) CHECK (salary > 0), bonus numeric(10,2) DEFAULT 0, hired date NOT NULL, gone date,
    CONSTRAINT times CHECK (gone IS NULL OR gone >= hired), CONSTRAINT bonus_below CHECK (bonus <= salary));
CREATE TABLE review (id int PRIMARY KEY, employee int NOT NULL REFERENCES employee ON DELETE CASCADE, grade int CHECK (grade BETWEEN 1 AND 5), words text);
CREATE TABLE audit (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz DEFAULT now(), who name DEFAULT current_user, what text, employee int);
CREATE TABLE absence (employee int REFERENCES employee, since date, reason text, PRIMARY KEY (employee, since));

CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = hr AS
    'BEGIN INSERT INTO audit (what, employee) VALUES (TG_OP, coalesce(NEW.id, OLD.id)); RETURN NULL; END';
CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE ON employee FOR EACH ROW EXECUTE FUNCTION noted();
CREATE TRIGGER only_changes AFTER UPDATE OF salary, bonus ON employee FOR EACH ROW WHEN (old.unit = new.unit) EXECUTE FUNCTION noted();
INSERT INTO unit VALUES (1, 'north', 'alice'), (2, 'south', 'bob');
INSERT INTO employee SELECT n, CASE n WHEN 1 THEN 'alice' WHEN 2 THEN 'bob' ELSE 'e' || n END, 1 + n % 2, 'Name ' || n, '123-45-' || 1000 + n, 1000 * n, n, date '2020-01-01' + n, CASE WHEN n % 4 = 0 THEN date '2024-01-01' END FROM generate_series(1, 12) n;
INSERT INTO review SELECT n, 1 + n % 12, 1 + n % 5, 'words ' || n FROM generate_series(1, 20) n;
INSERT INTO absence SELECT n, date '2023-01-01', 'flu' FROM generate_series(1, 6) n;

ALTER TABLE employee ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_row ON employee FOR SELECT USING (login = current_user);
CREATE POLICY of_unit ON employee USING (unit IN (SELECT id FROM unit WHERE head = current_user));
ALTER TABLE review ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_mine ON review USING (employee IN (SELECT e.id FROM employee e WHERE e.login = current_user OR e.full_name LIKE 'Name 1%'));
CREATE POLICY no_bad ON review AS RESTRICTIVE FOR SELECT USING (grade > 1);
ALTER TABLE absence ENABLE ROW LEVEL SECURITY;
CREATE POLICY by_unit ON absence USING (EXISTS (SELECT FROM employee e JOIN unit u ON u.id = e.unit WHERE e.id = absence.employee AND (u.head = current_user OR e.login = current_user)))
    WITH CHECK (since > '2000-01-01' AND (SELECT count(*) FROM employee e WHERE e.id = absence.employee AND e.gone IS NULL) = 1);
CREATE VIEW phone_book WITH (security_invoker) AS SELECT e.full_name, u.name AS unit FROM employee e JOIN unit u ON u.id = e.unit;
CREATE VIEW costs WITH (security_invoker, security_barrier) AS SELECT u.name, sum(e.salary + e.bonus) AS costs FROM employee e JOIN unit u ON u.id = e.unit GROUP BY u.name;
CREATE VIEW grades WITH (security_invoker) AS SELECT employee, avg(grade) AS grade FROM review GROUP BY employee;
CREATE VIEW overview AS SELECT u.name, u.head, (SELECT count(*) FROM employee e WHERE e.unit = u.id) AS people FROM unit u;
CREATE FUNCTION years(employee) RETURNS int STABLE LANGUAGE sql AS 'SELECT extract(year FROM $1.hired)::int';
CREATE FUNCTION salaries() RETURNS TABLE (name text, salary numeric) STABLE BEGIN ATOMIC SELECT e.full_name, e.salary FROM employee e WHERE gone IS NULL ORDER BY 2; END;
GRANT SELECT, INSERT, UPDATE, DELETE ON employee, review, absence TO alice, bob;
GRANT SELECT ON unit, phone_book, costs, grades TO alice, bob;
RESET search_path;
RESET ROLE;
