"""TABLE_envelope_clear(NEW): a trigger of a protected table sees its row as a trigger of the plain one does."""

from __future__ import annotations

import pytest

from tests.fix_stack import Database

TABLE = """
CREATE TABLE {0} (id int PRIMARY KEY, email text, code text COLLATE "C", "Odd name" varchar(20) COLLATE "POSIX",
    list text[], price numeric(8,2), doc jsonb, day date);
CREATE TABLE seen_by_{0} (op text, old jsonb, new jsonb);
CREATE FUNCTION see_{0}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO seen_by_{0} VALUES (TG_OP, CASE TG_OP WHEN 'UPDATE' THEN {1}(OLD) END, {1}(NEW));
    RETURN NEW;
END $$;
"""
TRIGGER = "CREATE TRIGGER sees BEFORE INSERT OR UPDATE ON {} FOR EACH ROW EXECUTE FUNCTION see_{}()"
STATEMENTS = (
    """INSERT INTO {} VALUES (1, 'e', 'c', 'odd', ARRAY['a', NULL, 'NULL'], 1.50, '{{"a": [1, null]}}', '2024-02-29'),
        (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL)""",
    "UPDATE {} SET code = email, email = code, \"Odd name\" = 'other' WHERE id = 1",
    "UPDATE {} SET price = 2, id = 3 WHERE id = 2",
)
ALL = '["email", "code", "Odd name", "list", "price", "doc", "day"]'


@pytest.mark.parametrize("columns", ['["email"]', '["email", "code"]', '["code", "Odd name", "list"]', ALL])
def test_a_trigger_sees_the_row_of_the_plain_table(db: Database, columns: str) -> None:
    db.sql(TABLE.format("plain", "to_jsonb"))
    db.sql(TABLE.format("guarded", "guarded_envelope_clear"))
    db.sql("CREATE FUNCTION fits(int) RETURNS bool LANGUAGE sql RETURN $1 > 0")
    db.sql("ALTER TABLE guarded ADD CHECK (fits(id))")
    db.sql(f"CALL envelope.protect('guarded', '{columns}')")
    db.sql(TRIGGER.format("plain", "plain"))
    db.sql(TRIGGER.format("guarded_encrypted", "guarded"))
    for statement in STATEMENTS:
        for table in ("plain", "guarded"):
            db.sql(statement.format(table))
    seen = [db.sql(f"SELECT * FROM seen_by_{table} ORDER BY op, new ->> 'id'") for table in ("plain", "guarded")]
    assert seen[1] == seen[0]
    assert len(seen[0]) == 4
