"""pg-envelope discover and coverage: from samples to a file, and from the file to an exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.client.test_commands import Command

ROWS = """INSERT INTO "Odd %s" SELECT i, date '1950-01-01' + 100 * i, 'write to planted' || i || '@example.org',
    4111111111111111, 'planted' || i || '@example.org', 'DE89370400440532013000', 'nothing'
    FROM generate_series(1, 60) i"""


@pytest.fixture
def command(stack: Stack, db: Database) -> Command:
    db.sql("CREATE EXTENSION citext CASCADE")
    db.sql("CREATE DOMAIN account AS text")
    columns = 'id int, "née" date, "a%b" text, pan numeric, "E-Mail" citext, iban account, note text'
    db.sql(f'CREATE TABLE "Odd %s" ({columns})')
    db.sql(ROWS)
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text, phone text)")
    db.sql(
        "INSERT INTO person SELECT i, 'u' || i || '@example.org', '+49 30 12345' || i FROM generate_series(10, 60) i"
    )
    db.sql("""CALL envelope.protect('person', '{"email": {"search": "exact"}}')""")
    return Command(stack, db.name)


def test_columns_are_found_and_no_value_is_shown(command: Command) -> None:
    found = {row["column"]: row["kind"] for row in command.rows("discover")}
    assert found == {
        "public.Odd %s.née": "date of birth",
        "public.Odd %s.a%b": "personal data in text",
        "public.Odd %s.pan": "card number",
        "public.Odd %s.E-Mail": "e-mail",
        "public.Odd %s.iban": "IBAN",
        "public.person.phone": "phone",
    }
    told = command.done("discover")
    assert not [value for value in ("planted", "4111", "DE89", "1950", "12345") if value in told.out + told.err]


def test_the_proposal_fails_until_all_is_protected(command: Command, db: Database, tmp_path: Path) -> None:
    file = tmp_path / "envelope.toml"
    command.done("discover", "--out", file)
    assert command.run("discover", "--out", file).code == 1
    assert "planted" not in file.read_text()
    first = command.run("coverage", file)
    assert first.code == 1
    assert first.out.count("holds plaintext") == 6
    db.sql('ALTER TABLE "Odd %s" ADD PRIMARY KEY (id)')
    db.sql("""CALL envelope.protect('"Odd %s"', '["née", "a%b", "pan", "E-Mail", "iban"]')""")
    db.sql("CALL envelope.unprotect('person')")
    db.sql("""CALL envelope.protect('person', '["email", "phone"]')""")
    assert command.done("coverage", file).out.count("protected") == 7
    assert command.rows("discover") == []


def test_a_copy_of_a_protected_column_is_plaintext(command: Command, db: Database, tmp_path: Path) -> None:
    file = tmp_path / "envelope.toml"
    file.write_text('[[require]]\ncolumn = "public.*.email"\n')
    command.done("coverage", file)
    db.sql("CREATE TABLE copied AS SELECT email FROM person")
    failed = command.run("coverage", file)
    assert failed.code == 1
    assert "public.copied.email" in failed.out


def test_a_tag_in_a_comment_counts_on_view_and_base_table(command: Command, db: Database, tmp_path: Path) -> None:
    file = tmp_path / "envelope.toml"
    file.write_text('[[require]]\ntag = "pii"\n')
    assert command.run("coverage", file).code == 1
    db.sql("COMMENT ON COLUMN person.email IS 'pii'")
    command.done("coverage", file)
    db.sql("COMMENT ON COLUMN person_encrypted.phone IS 'calls (pii)'")
    assert command.run("coverage", file).code == 1


def test_a_role_without_rights_is_told_so(stack: Stack, db: Database, command: Command) -> None:
    refused = Command(stack, db.name, "alice").run("discover")
    assert refused.code == 1
    assert "permission denied" in refused.err


def test_a_locked_table_is_not_waited_for(command: Command, db: Database) -> None:
    with db.connect(autocommit=False) as holder:
        holder.execute("LOCK TABLE person_encrypted")
        rows = {row["column"]: row["state"] for row in command.rows("discover")}
    assert rows["public.person.phone"] == "not checked"
    assert rows["public.Odd %s.pan"] == "plaintext"


def test_odd_tables_end_nothing(command: Command, db: Database) -> None:
    """A view without rows yet, partitions, and a table with nothing but NULL."""
    db.sql("CREATE MATERIALIZED VIEW later AS SELECT 'planted@example.org'::text AS email WITH NO DATA")
    db.sql("CREATE TABLE parts (id int, contact text) PARTITION BY RANGE (id)")
    db.sql("CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (1000)")
    db.sql("INSERT INTO parts SELECT i, 'planted' || i || '@example.org' FROM generate_series(1, 99) i")
    db.sql("CREATE TABLE nothing AS SELECT NULL::text AS note FROM generate_series(1, 99)")
    rows = {row["column"]: row for row in command.rows("discover")}
    assert rows["public.later.email"]["state"] == "not checked"
    assert rows["public.parts.contact"]["kind"] == "e-mail"
    assert not [name for name in rows if "parts_1" in name or "nothing" in name]


def test_code_of_an_owner_does_not_run(stack: Stack, db: Database, command: Command) -> None:
    """Neither a cast nor an operator that a table's owner made is used by a superuser's samples."""
    db.sql("CREATE TYPE mood AS ENUM ('planted@example.org')", user="owner")
    db.sql(
        "CREATE FUNCTION said(mood) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'owned'; END $$;"
        "CREATE CAST (mood AS text) WITH FUNCTION said(mood);"
        "CREATE TABLE feels (email mood); INSERT INTO feels VALUES ('planted@example.org')",
        user="owner",
    )
    rows = {row["column"]: row["by"] for row in command.rows("discover")}
    assert rows["public.feels.email"] == "name"
