"""unprotect() of a table with values that do not open: refused with the rows, or NULL where that is wished."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from tests.fix_stack import Database, Fill
from tests.integration.client.test_commands import Command

from .fix_damage import as_written, damage, damage_all, fill_letters, readable, told

UNPROTECT = "CALL envelope.unprotect('letter')"
AS_NULL = "CALL envelope.unprotect('letter', damaged => 'null')"


def fill(db: Database) -> None:
    """letter without NOT NULL on its body."""
    fill_letters(db)
    db.sql("CALL envelope.unprotect('letter')")
    db.sql("ALTER TABLE letter ALTER body DROP NOT NULL")
    db.sql("""CALL envelope.protect('letter', '["head", "body"]', store => 'catalog')""")


@pytest.fixture
def nullable(filled: Callable[[Fill], Database]) -> Database:
    """A copy, for tests that neither destroy nor suspend a key."""
    return filled(fill)


@pytest.fixture
def own_nullable(db: Database) -> Database:
    """The same with keys of its own."""
    fill(db)
    return db


def refusal(db: Database, call: str) -> tuple[str, str, str, str]:
    with pytest.raises(psycopg.Error) as caught:
        db.sql(call)
    report = caught.value.diag
    return (
        report.sqlstate or "",
        report.message_primary or "",
        report.message_detail or "",
        report.message_hint or "",
    )


def assert_unchanged(db: Database, bad: dict[int, str]) -> None:
    assert readable(db, bad) == as_written(bad)
    assert db.one("SELECT relkind FROM pg_class WHERE oid = 'letter'::regclass") == "v"


def test_it_names_the_rows_and_changes_nothing(nullable: Database) -> None:
    bad = damage_all(nullable)
    sqlstate, text, detail, hint = refusal(nullable, UNPROTECT)
    assert sqlstate == "XX001"
    assert text.endswith("cannot be unprotected: values do not open; nothing was changed")
    lines = detail.split("\n")
    assert lines[:2] == ["body: 10 does not open", "body: 2 key unknown"]
    assert "- body of (id)=(11): does not open" in lines
    assert len(lines) == 13
    assert lines[-1].startswith("- and 2 more")
    assert "damaged => 'null'" in hint
    assert_unchanged(nullable, bad)


def test_null_where_it_is_wished(nullable: Database) -> None:
    bad = damage_all(nullable)
    warnings = [text for level, text, _ in told(nullable.admin, AS_NULL) if level == "WARNING"]
    assert warnings == ['unprotect: values of "public"."letter" that nobody could open, and are NULL now: 12']
    assert nullable.sql("SELECT id FROM letter WHERE body IS NULL ORDER BY id") == [(row,) for row in bad]
    assert readable(nullable, bad) == as_written(bad)
    assert nullable.one("SELECT relkind FROM pg_class WHERE oid = 'letter'::regclass") == "r"


def test_not_where_the_column_takes_none(letters: Database) -> None:
    damage(letters, "cut", 11)
    sqlstate, _, detail, hint = refusal(letters, AS_NULL)
    assert (sqlstate, detail) == ("XX001", "body: 1 does not open\n- body of (id)=(11): does not open")
    assert "NOT NULL" in hint
    assert_unchanged(letters, {11: ""})


def test_not_for_what_may_open_again(own_nullable: Database) -> None:
    """A suspended key comes back with unsuspend(): NULL would lose what is there."""
    own_nullable.sql("CALL envelope.suspend('letter', NULL, 'test')")
    sqlstate, _, detail, hint = refusal(own_nullable, AS_NULL)
    assert sqlstate == "XX001"
    assert "key suspended" in detail
    assert "CALL envelope.unsuspend" in hint
    own_nullable.sql("CALL envelope.unsuspend('letter')")
    assert_unchanged(own_nullable, {})


def test_what_was_erased_may_become_null(own_nullable: Database) -> None:
    own_nullable.sql("CALL envelope.shred('letter', NULL, 'test')")
    assert "key destroyed" in refusal(own_nullable, UNPROTECT)[2]
    own_nullable.sql(AS_NULL)
    assert own_nullable.one("SELECT count(*) FROM letter WHERE body IS NULL AND head IS NULL") == 40


def test_without_damage_the_option_changes_nothing(nullable: Database) -> None:
    assert [level for level, *_ in told(nullable.admin, AS_NULL)] == ["NOTICE"]
    assert readable(nullable, {}) == as_written({})


@pytest.mark.parametrize("damaged", ["nil", ""])
def test_only_words_it_knows(letters: Database, damaged: str) -> None:
    wanted = "XX001" if damaged == "" else "22023"
    damage(letters, "cut", 11)
    assert refusal(letters, f"CALL envelope.unprotect('letter', damaged => '{damaged}')")[0] == wanted


def test_other_errors_stay_what_they_are(nullable: Database) -> None:
    """A value that opens and cannot be stored in the plain column: nothing of pg_envelope's is in the way."""
    damage(nullable, "cut", 11)
    nullable.sql("DELETE FROM letter_encrypted WHERE id = 11")
    nullable.sql(UNPROTECT)
    assert readable(nullable, {11: ""}) == as_written({11: ""})


def test_the_command(command: Command, own_nullable: Database) -> None:
    damage(own_nullable, "cut", 11)
    failed = command.run("unprotect", "letter")
    assert failed.code == 1
    assert "(id)=(11)" in failed.err
    command.done("unprotect", "letter", "--damaged", "null")
    assert own_nullable.sql("SELECT id FROM letter WHERE body IS NULL") == [(11,)]
