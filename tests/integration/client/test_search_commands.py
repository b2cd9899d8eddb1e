"""pg-envelope search: search columns from the command line."""

from __future__ import annotations

import pytest
from psycopg import errors

from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.client.test_commands import Command


def test_a_search_column_s_life(stack: Stack, db: Database) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text, gender text)")
    db.sql("INSERT INTO person SELECT i, 'User' || i, (ARRAY['m', 'f'])[1 + i % 2] FROM generate_series(1, 1500) i")
    db.sql("""CALL envelope.protect('person', '["email", "gender"]')""")
    command = Command(stack, db.name)
    assert "FINE" in command.done("search", "advise", "person", "email").out
    refused = command.run("search", "advise", "person", "gender")
    assert refused.code == 1
    assert "REFUSE" in refused.out
    assert "can be searched" in command.done("search", "add", "person", "email", "--as", "found", "--unique").out
    assert db.sql("SELECT id FROM person WHERE found = 'User7'") == [(7,)]
    command.done("search", "rotate", "person", "email", "--normalize", "casefold", "--batch-size", "100")
    assert db.sql("SELECT id FROM person WHERE found = 'USER7'") == [(7,)]
    listed = command.done("search", "list").out
    assert "found" in listed
    assert "casefold/1" in listed
    command.done("search", "drop", "person", "email")
    assert "No search columns" in command.done("search", "list").out
    failed = command.run("search", "add", "person", "gender")
    assert failed.code == 1
    assert "There are 2 different values" in failed.err
    command.done("search", "add", "person", "gender", "--force")
    assert db.one("SELECT count(*) FROM person WHERE gender_search = 'f'") == 750


def test_each_kind_of_search_column(stack: Stack, db: Database) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, name text, born date, pay numeric, notes jsonb)")
    db.sql("""INSERT INTO person VALUES (1, 'Zoë Ångström', '1990-02-14', 4200.5, '{"city": "Bern"}')""")
    db.sql("""CALL envelope.protect('person', '["name", "born", "pay", "notes"]')""")
    command = Command(stack, db.name)
    command.done("search", "add", "person", "name", "--kind", "match")
    command.done("search", "add", "person", "born", "--kind", "range", "--bucket", "month")
    command.done("search", "add", "person", "pay", "--kind", "range", "--bucket", "0.5", "--as", "pay_found")
    command.done("search", "add", "person", "notes", "--kind", "contains")
    for condition in (
        "name_match @> '%gström%'",
        "born_range <@ daterange('1990-01-01', NULL)",
        "pay_found <@ numrange(4200, 4201)",
        """notes_contains @> '{"city": "Bern"}'""",
    ):
        assert db.sql(f"SELECT id FROM person WHERE {condition}") == [(1,)]
    paths = ("--path", "city", "--path", "address.zip", "--as", "notes_city")
    command.done("search", "add", "person", "notes", "--kind", "contains", *paths)
    assert db.sql("""SELECT id FROM person WHERE notes_city @> '{"city": "Bern"}'""") == [(1,)]
    with pytest.raises(errors.InvalidParameterValue):
        db.sql("""SELECT id FROM person WHERE notes_city @> '{"name": "Zoë"}'""")
    failed = command.run("search", "add", "person", "born", "--kind", "range", "--bucket", "week", "--as", "other")
    assert failed.code == 1
    assert "needs a bucket" in failed.err


def test_a_table_is_protected_and_opened_again_while_it_is_in_use(stack: Stack, db: Database) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    db.sql("INSERT INTO person SELECT i, 'user ' || i FROM generate_series(1, 500) i")
    command = Command(stack, db.name)
    planned = command.done("protect", "person", "email", "--dry-run")
    assert "ACCESS EXCLUSIVE" in planned.err
    assert db.one("SELECT count(*) FROM envelope.columns") == 0
    command.done("protect", "person", "email", "--online", "--batch-size", "50", "--max-lag-mb", "0")
    assert db.one("SELECT count(*) FROM person WHERE email = 'user ' || id") == 500
    assert db.one("SELECT count(*) FROM person_encrypted WHERE email IS NULL") == 0
    command.done("unprotect", "person", "--online", "--max-lag-mb", "1")
    assert db.one("SELECT count(*) FROM person WHERE email = 'user ' || id") == 500
