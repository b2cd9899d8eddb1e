"""DDL on a protected table's own name, however the table is called and however a command writes it."""

from __future__ import annotations

import pytest

from tests.fix_stack import Database


@pytest.mark.parametrize(
    "written", ["plain", "PLAIN", '"Odd"', '"Ärger"', '"ärger"', "ärger", '"ÇİIı ß"', '"says ""Ä"""']
)
def test_a_command_reaches_the_table(db: Database, written: str) -> None:
    db.sql(f"CREATE TABLE {written} (id int PRIMARY KEY, email text); INSERT INTO {written} VALUES (1, 'a')")
    db.sql("CALL envelope.protect(%s, '[\"email\"]')", written)
    db.sql(f"ALTER TABLE {written} ADD COLUMN more int DEFAULT 7")
    db.sql(f"COMMENT ON TABLE {written} IS 'commented'")
    assert db.sql(f"SELECT id, email, more, obj_description(%s::regclass) FROM {written}", written) == [
        (1, "a", 7, "commented")
    ]
