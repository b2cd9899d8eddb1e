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


PLANTED = (
    "CREATE INDEX ON trap ((tries('x')))",
    "CREATE INDEX ON trap (id) WHERE tries('x') IS NOT NULL",
    "CREATE INDEX ON trap ((~~~ 'x'::text))",
    "CREATE STATISTICS s ON (tries('x')), id FROM trap",
    "ALTER TABLE trap ADD CHECK (tries('x') IS NOT NULL)",
    "CREATE TABLE child () INHERITS (trap); CREATE INDEX ON child ((tries('x')))",
)


def plant(db: Database, statement: str) -> None:
    db.sql(
        "CREATE FUNCTION attempt() RETURNS void LANGUAGE plpgsql AS"
        " $$ BEGIN ALTER ROLE owner SUPERUSER; EXCEPTION WHEN OTHERS THEN NULL; END $$;"
        "CREATE FUNCTION tries(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM public.attempt(); RETURN $1; END $$;"
        "CREATE OPERATOR ~~~ (RIGHTARG = text, FUNCTION = tries);"
        "CREATE TABLE trap (id int, email text); INSERT INTO trap SELECT 1, 'planted@example.org';",
        user="owner",
    )
    owner = db.connect("owner")
    owner.execute(statement.encode())
    owner.close()


def is_superuser(db: Database) -> bool:
    return bool(db.one("SELECT rolsuper FROM pg_roles WHERE rolname = 'owner'"))


def test_a_plain_sample_would_run_that_code(db: Database) -> None:
    """The control."""
    plant(db, PLANTED[0])
    try:
        assert not is_superuser(db)
        db.sql("SELECT email FROM trap TABLESAMPLE SYSTEM (100)")
        assert is_superuser(db)
    finally:
        db.sql("ALTER ROLE owner NOSUPERUSER")


@pytest.mark.parametrize("planted", PLANTED)
def test_code_in_an_index_does_not_run(db: Database, command: Command, planted: str) -> None:
    """PostgreSQL computes constant parts of expressions when it plans a query, with the rights of who asks."""
    plant(db, planted)
    rows = {row["column"]: row["state"] for row in command.rows("discover")}
    assert not is_superuser(db)
    assert rows["public.trap.email"] == "plaintext", "by its name"


def test_a_table_with_row_policies_is_not_sampled_by_who_they_are_for(
    stack: Stack, db: Database, command: Command
) -> None:
    db.sql("CREATE TABLE trap (id int, email text); INSERT INTO trap SELECT 1, 'planted@example.org'", user="owner")
    db.sql("CREATE TABLE ran (who text); GRANT ALL ON ran TO public")
    db.sql(
        "CREATE FUNCTION tries() RETURNS bool LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO public.ran VALUES (current_user); RETURN true; END $$;"
        "ALTER TABLE trap ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON trap USING (tries())",
        user="owner",
    )
    db.sql("CREATE ROLE looker LOGIN IN ROLE pg_read_all_data")
    try:
        rows = {row["column"]: row["state"] for row in Command(stack, db.name, "looker").rows("discover")}
    finally:
        db.sql("DROP ROLE looker")
    assert db.sql("TABLE ran") == []
    assert rows["public.trap.email"] == "not checked"
