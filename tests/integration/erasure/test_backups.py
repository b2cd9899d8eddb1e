"""The register of backups: one label, one backup, and a guard of its keys until somebody says that it is gone."""

from __future__ import annotations

import json

import psycopg
import pytest

from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.client.test_commands import Command
from tests.integration.operations.fix_kms_life import failure

LISTED = "SELECT label, taken_at::date::text, expires_at::date::text, state FROM envelope.backups"
REGISTER = "SELECT envelope.register_backup(%s, %s, %s)"


def test_a_label_is_not_used_twice(db: Database) -> None:
    db.sql(REGISTER, "nightly", "2026-01-01", None)
    with pytest.raises(psycopg.errors.DuplicateObject) as caught:
        db.sql(REGISTER, "nightly", "2026-01-02", "2026-02-02")
    assert "taken at 2026-01-01" in str(caught.value.diag.message_detail)
    assert "keep_backup" in str(caught.value.diag.message_hint)
    assert db.sql(LISTED) == [("nightly", "2026-01-01", None, "kept")]


def test_nor_that_of_a_backup_that_is_gone(db: Database) -> None:
    db.sql(REGISTER, "nightly", "2026-01-01", None)
    assert [db.one("SELECT envelope.forget_backup('nightly')") for _ in range(2)] == [True, False]
    assert failure(db.admin, "SELECT envelope.register_backup('nightly')")[0] == "42710"
    assert db.sql(LISTED) == [("nightly", "2026-01-01", None, "destroyed")]


def test_its_end_can_be_changed(db: Database) -> None:
    db.sql(REGISTER, "base", "2026-01-01", "2026-02-01")
    assert db.sql(LISTED)[0][3] == "expired"
    assert db.one("SELECT envelope.keep_backup('base', '2999-01-01')") is True
    assert db.sql(LISTED) == [("base", "2026-01-01", "2999-01-01", "kept")]
    assert db.one("SELECT envelope.keep_backup('base', NULL)") is True
    assert db.sql(LISTED)[0][2:] == (None, "kept")
    assert db.one("SELECT envelope.keep_backup('other', NULL)") is False


def test_a_second_one_lifts_no_guard(people: Database) -> None:
    """What was registered yesterday still needs its key, whatever is registered today."""
    people.sql("SELECT envelope.register_backup('nightly')")
    people.sql("SELECT envelope.rotate('person')")
    people.sql("CALL envelope.reencrypt('person')")
    people.sql("CALL envelope.retire('person', 1)")
    assert failure(people.admin, "SELECT envelope.register_backup('nightly')")[0] == "42710"
    people.sql("SELECT envelope.set_schedule('dek', '90 days', 'public.person', grace => '0')")
    sqlstate, _, hint = failure(people.admin, "CALL envelope.retire('person', 1, destroy => true)")
    assert (sqlstate, "forget_backup" in hint) == ("55006", True)


@pytest.mark.parametrize(
    "arguments",
    ["NULL", "''", "' '", "'x', NULL", "'x', '2026-01-02', '2026-01-01'", "'x', '2026-01-02', '2026-01-02'"],
)
def test_what_is_no_backup(db: Database, arguments: str) -> None:
    assert failure(db.admin, f"SELECT envelope.register_backup({arguments})")[0] == "22023"


def test_the_command(stack: Stack, db: Database) -> None:
    command = Command(stack, db.name)
    assert "No backup is registered" in command.done("backups", "list").out
    command.done("backups", "register", "2026-01-31 base", "--taken", "2026-01-31", "--expires", "2999-01-01")
    assert command.run("backups", "register", "2026-01-31 base").code == 1
    command.done("backups", "keep", "2026-01-31 base", "--until", "2999-02-01")
    (row,) = json.loads(command.done("backups", "list", "--json").out)
    assert (row["label"], row["expires_at"][:10], row["state"]) == ("2026-01-31 base", "2999-02-01", "kept")
    command.done("backups", "forget", "2026-01-31 base")
    assert "destroyed" in command.done("backups", "list").out
    for words in (("forget", "2026-01-31 base"), ("keep", "2026-01-31 base")):
        assert "there is no backup with the label" in command.run("backups", *words).err
