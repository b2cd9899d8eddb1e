"""pg-envelope residue: it finds plaintext where it is planted, and tells no value."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pg_envelope_client.residue.queries import plant
from stack.stack import Stack
from tests.fix_stack import Database, maintenance
from tests.integration.client.test_commands import Command

VALUE = "planted-7Kd%s-value"


@pytest.fixture
def command(stack: Stack, db: Database) -> Command:
    """A table that never held plaintext: its values came in through the view."""
    # The database of the test before has the same values.
    maintenance(stack).remove([])
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text, pin text, born date)")
    db.sql("""CALL envelope.protect('person', '["email", "pin", "born"]')""")
    # The parts meet in the server only, so that no statement in the log holds a value.
    db.sql(
        "INSERT INTO person SELECT i, 'planted' || '-7Kd' || i || '-value', '1234', make_date(1970, 1, 1)"
        " FROM generate_series(1, 9) i"
    )
    return Command(stack, db.name)


def kinds(command: Command, *words: object) -> dict[tuple[str, str], dict[str, Any]]:
    ended = command.run("residue", "person", "--json", *words)
    assert "planted-" not in ended.out + ended.err
    assert ended.code == 1, ended.err
    return {(row["kind"], row["column"]): row for row in json.loads(ended.out)}


def test_nothing_is_left_by_values_that_came_through_the_view(command: Command) -> None:
    ended = command.done("residue", "person")
    assert "No value was found." in ended.out
    assert "The planted mark was found." in ended.err
    assert "Too short or too plain to look for, or of several lines: pin: 9" in ended.err
    assert "born" in ended.err


def test_no_code_of_the_owner_runs(command: Command, db: Database) -> None:
    db.sql(
        "CREATE FUNCTION tries() RETURNS bool LANGUAGE plpgsql AS"
        " $$ BEGIN ALTER ROLE owner SUPERUSER; RETURN true; EXCEPTION WHEN OTHERS THEN RETURN true; END $$;"
        "ALTER FUNCTION tries OWNER TO owner"
    )
    view = db.one("SELECT pg_get_viewdef('person'::regclass)").rstrip(";")
    db.sql(f"CREATE OR REPLACE VIEW person AS {view} WHERE tries()")
    ended = command.run("residue", "person")
    assert (ended.code, "could run code of others" in ended.err) == (1, True), ended.err
    assert db.one("SELECT rolsuper FROM pg_roles WHERE rolname = 'owner'") is False
    db.sql(f"CREATE OR REPLACE VIEW person AS {view}")
    command.done("residue", "person")


def test_a_copy_in_a_table_is_found_with_its_name(command: Command, db: Database) -> None:
    db.sql("CREATE TABLE copied AS SELECT email FROM person")
    found = kinds(command)
    assert found["relation", "email"]["place"] == "copied"
    assert found["relation", "email"]["values"] == 9
    assert ("WAL", "email") in found


def test_a_long_value_is_found_in_toast(command: Command, db: Database) -> None:
    """Uncompressed TOAST holds plaintext as it is. The finding names the table, and not its TOAST table."""
    db.sql("CREATE TABLE copied (email text)")
    db.sql("ALTER TABLE copied ALTER email SET STORAGE EXTERNAL")
    db.sql("INSERT INTO copied SELECT email || repeat('.', 5000) FROM person")
    assert kinds(command)["relation", "email"]["place"] == "TOAST of copied"


def test_a_sort_on_disk_is_found_while_it_lasts(command: Command, db: Database) -> None:
    with db.connect() as other:
        other.execute("SET work_mem = '64kB'")
        other.execute("BEGIN")
        other.execute(
            "DECLARE sorted CURSOR FOR SELECT email || repeat('.', 200) FROM person, generate_series(1, 500) ORDER BY 1"
        )
        other.execute("FETCH 1 FROM sorted")
        assert kinds(command)["temporary file", "email"]["values"] == 9
        other.execute("ROLLBACK")
    assert ("temporary file", "email") not in kinds_or_none(command)


def kinds_or_none(command: Command) -> set[tuple[str, str]]:
    """What is found, if anything is: earlier statements can have left values in WAL."""
    ended = command.run("residue", "person", "--json")
    return {(row["kind"], row["column"]) for row in json.loads(ended.out)}


def test_a_log_outside_is_found(command: Command, tmp_path: Path) -> None:
    (tmp_path / "odd\nname: log").write_text(f"a line with {VALUE % 3} in it\n")
    found = kinds(command, "--also", tmp_path)
    assert found["file", "email"]["times"] == 1


def test_a_value_on_many_lines_of_wal_does_not_hide_the_mark(command: Command, db: Database) -> None:
    db.sql("SELECT pg_switch_wal()")
    lines = "repeat('planted' || '-7Kd5-value' || chr(10), 5000)"
    db.sql(f"SELECT pg_logical_emit_message(false, 'note', {lines})")
    found = kinds(command)["WAL", "email"]
    assert found["times"] > 4900, "the heads of WAL pages cut some in two"
    assert found["values"] == 1


def test_statistics_are_found(command: Command, db: Database) -> None:
    db.sql("CREATE TABLE copied AS SELECT email FROM person, generate_series(1, 50)")
    db.sql("ANALYZE copied")
    db.sql("TRUNCATE copied")
    assert kinds(command)["statistics", "email"]["place"] == "public.copied.email"


def test_the_last_statement_of_a_session_is_found(command: Command, db: Database) -> None:
    with db.connect() as other:
        other.execute(f"SELECT '{VALUE % 4}'")  # type: ignore[call-overload]
        assert ("last statement", "email") in kinds(command)


def test_a_user_who_may_not_read_the_files_is_told_so(command: Command, db: Database) -> None:
    """As a user of another machine: the server answers, and its files are elsewhere."""
    db.sql("CREATE ROLE elsewhere SUPERUSER LOGIN PASSWORD 'not secret'")
    user = {"PGHOST": "127.0.0.1", "PGUSER": "elsewhere", "PGPASSWORD": "not secret"}
    line = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", command.program, "residue", "person"]
    try:
        done = subprocess.run(line, env=command.environment | user, capture_output=True, text=True, check=False)
    finally:
        db.sql("DROP ROLE elsewhere")
    assert done.returncode == 1
    assert "cannot be read here" in done.stderr
    assert "No value was found" not in done.stdout


def test_a_table_that_is_not_protected_is_refused(command: Command, db: Database) -> None:
    db.sql("CREATE TABLE plain (id int)")
    for name in ("plain", "nothing"):
        assert command.run("residue", name).code == 1


def test_a_mark_is_found_wherever_a_page_of_wal_ends(db: Database) -> None:
    """The head of a page can cut the first mark or the second, and never both."""
    here = "SELECT ((pg_current_wal_insert_lsn() - '0/0') %% 8192)::int WHERE %s"
    marks = [f"mark-{number}-{'m' * 30}" for number in range(40)]
    for number, mark in enumerate(marks):
        left = 8192 - 4 * number - int(db.one(here, True))
        db.sql("SELECT pg_logical_emit_message(false, 'pad', repeat('x', %s))", left % 8192)
        query = plant(mark)
        db.sql(query.sql, *query.values)
    db.sql("CHECKPOINT")
    wal = b"".join(path.read_bytes() for path in (db.stack.cluster.data / "pg_wal").iterdir() if path.is_file())
    found = [wal.count(mark.encode()) for mark in marks]
    assert all(found)
    assert 1 in found, "no page ended within a mark"
