"""Attacks on masks, each named after what it tries: docs/attacks.md lists them. None may show a role a value of which
it sees a mask.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from stack.stack import Stack
from tests.fix_stack import Database, databases
from tests.integration.client.test_commands import Command

from .fix_attacks import ATTACKS, FAILS
from .fix_masks import CLEAR_EMAIL, MARK, ROWS, failure, make_person

Connection = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def prey(stack: Stack) -> Iterator[Database]:
    """One table for all attacks, which are rolled back."""
    with databases(stack) as make:
        db = make()
        make_person(db)
        assert any(MARK in line for line in every_result(db.connect("bob"), "TABLE person"))
        yield db


class Told(list[str]):
    """All rows of all statements, or the error with all its fields."""

    sqlstate: str | None = None


def every_result(session: Connection, statements: str) -> Told:
    rows = Told()
    try:
        cursor = session.execute(statements.encode())
    except psycopg.Error as error:
        session.rollback()
        fields = ("message_primary", "message_detail", "message_hint", "context", "internal_query")
        rows += [str(getattr(error.diag, field)) for field in fields]
        rows.sqlstate = error.sqlstate
        return rows
    while True:
        rows += map(str, cursor.fetchall() if cursor.description else [])
        if not cursor.nextset():
            return rows


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(prey: Database, name: str) -> None:
    told: list[str] = []
    alice = prey.connect("alice")
    alice.add_notice_handler(lambda notice: told.append(str(notice.message_primary)))
    alice.execute("BEGIN")
    ended = every_result(alice, ATTACKS[name])
    assert ended.sqlstate == expected(prey, name), ended
    assert ended or told or name == "statistics"
    assert [line for line in [*ended, *told] if MARK in line] == []
    alice.close()


def expected(db: Database, name: str) -> str | None:
    """PostgreSQL 17 brought MERGE into views."""
    if name == "merge_into_the_masked_table":
        return None if db.admin.info.server_version >= 170000 else "0A000"
    return FAILS.get(name)


@pytest.mark.parametrize("how", ["", " (FORMAT binary)", " (FORMAT csv, FORCE_QUOTE *)"])
def test_copy(prey: Database, how: str) -> None:
    with prey.connect("alice").cursor().copy(f"COPY (SELECT * FROM person) TO STDOUT{how}") as copied:
        lines = b"".join(bytes(part) for part in copied)
    assert lines.count(b"a***@example.org") == ROWS
    assert MARK.encode() not in lines


def test_pg_dump(masked: Database, stack: Stack) -> None:
    """A dump by `pg_dump --inserts` has the view's definition. Rows are in the base table, which alice may not read."""
    command = Command(stack, masked.name, "alice")
    asked = [str(stack.cluster.bindir / "pg_dump"), "--inserts", "--dbname", masked.name]
    for table, code, says in (
        (["--table", "person"], 0, "CREATE VIEW public.person"),
        (["--table", "person_encrypted"], 1, "permission denied"),
        ([], 1, "permission denied"),
    ):
        ended = subprocess.run([*asked, *table], env=command.environment, capture_output=True, text=True, check=False)
        assert ended.returncode == code, ended.stderr
        assert says in ended.stdout + ended.stderr
        assert MARK not in ended.stdout + ended.stderr


def test_masking_prepared_statements_after_set_role(masked: Database) -> None:
    session = masked.connect()
    session.execute("PREPARE p AS SELECT email FROM person WHERE id = 1")
    seen = []
    for role in ("bob", "alice", "bob", "none"):
        session.execute(f"SET ROLE {role}")
        seen += session.execute("EXECUTE p").fetchall()
    assert seen == [(CLEAR_EMAIL,), ("a***@example.org",), (CLEAR_EMAIL,), (CLEAR_EMAIL,)]


def test_masking_cursors_that_are_handed_on(masked: Database) -> None:
    """As with a plain table, whose rights are asked once: who opens a cursor and hands it on hands on what it shows."""
    session = masked.connect()
    for reader, other, first, then in (
        ("alice", "bob", "a***@example.org", "a***@example.org"),
        ("bob", "alice", CLEAR_EMAIL, CLEAR_EMAIL.replace("1@", "2@")),
    ):
        session.execute(f"BEGIN; SET LOCAL ROLE {reader}; DECLARE c CURSOR FOR SELECT email FROM person ORDER BY id")
        seen = session.execute("FETCH c").fetchall()
        session.execute(f"SET LOCAL ROLE {other}")
        seen += session.execute("FETCH c").fetchall()
        session.execute("ROLLBACK")
        assert seen == [(first,), (then,)]


def test_masking_cursors_that_nobody_read(masked: Database) -> None:
    session = masked.connect()
    session.execute("BEGIN; SET LOCAL ROLE bob; DECLARE c CURSOR FOR SELECT email FROM person ORDER BY id")
    session.execute("SET LOCAL ROLE alice")
    assert session.execute("FETCH c").fetchall() == [("a***@example.org",)]


def test_elevation_via_security_definer(masked: Database) -> None:
    """It shows what the definer sees, as with GRANT: docs/masks.md says so."""
    for role in ("alice", "bob"):
        masked.sql(
            f"CREATE FUNCTION of_{role}() RETURNS text LANGUAGE sql SECURITY DEFINER"
            " AS 'SELECT email FROM person WHERE id = 1'",
            user=role,
        )
    assert masked.sql("SELECT of_alice(), of_bob()", user="alice") == [("a***@example.org", CLEAR_EMAIL)]
    assert masked.sql("SELECT of_alice(), of_bob()", user="bob") == [("a***@example.org", CLEAR_EMAIL)]


def test_elevation_via_view(masked: Database) -> None:
    masked.sql("CREATE VIEW of_bob AS SELECT * FROM person; GRANT SELECT ON of_bob TO alice", user="bob")
    assert masked.sql("SELECT email FROM of_bob WHERE id = 1", user="alice") == [("a***@example.org",)]
    assert masked.sql("SELECT email FROM of_bob WHERE id = 1", user="bob") == [(CLEAR_EMAIL,)]


def test_a_trigger_of_the_table_sees_what_the_writing_role_sees(masked: Database) -> None:
    masked.sql(
        "CREATE TABLE log (line text); GRANT ALL ON log TO public;"
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO log VALUES (public.person_envelope_clear(NEW) ->> 'email'); RETURN NEW; END $$;"
        "CREATE TRIGGER note BEFORE UPDATE ON person_encrypted FOR EACH ROW EXECUTE FUNCTION note();"
        "CALL envelope.refresh('person')"
    )
    for role in ("alice", "bob"):
        masked.sql("UPDATE person SET name = 'x', email = email WHERE id = 1", user=role)
    masked.sql("UPDATE person SET email = 'new@example.org' WHERE id = 1", user="alice")
    assert masked.sql("TABLE log") == [("a***@example.org",), (CLEAR_EMAIL,), ("new@example.org",)]


def test_a_membership_that_ends_counts_from_the_next_statement(masked: Database) -> None:
    role = f"role_{os.urandom(4).hex()}"
    masked.sql(f"CREATE ROLE {role}; GRANT bob TO {role}")
    try:
        session = masked.connect()
        session.execute(f"SET ROLE {role}")
        assert session.execute("SELECT email FROM person WHERE id = 1").fetchall() == [(CLEAR_EMAIL,)]
        masked.sql(f"REVOKE bob FROM {role}; GRANT SELECT ON person TO {role}")
        assert session.execute("SELECT email FROM person WHERE id = 1").fetchall() == [("a***@example.org",)]
        session.close()
    finally:
        masked.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_rule_counts_from_the_next_statement_in_every_session(masked: Database) -> None:
    alice, bob = masked.connect("alice"), masked.connect("bob")
    read = "SELECT ssn FROM person WHERE id = 1"
    assert (alice.execute(read).fetchall(), bob.execute(read).fetchall()) == ([("***01",)], [("5d1e-00001",)])
    masked.sql("SELECT envelope.mask('person', 'ssn', 'bob', 'null')")
    assert (alice.execute(read).fetchall(), bob.execute(read).fetchall()) == ([("***01",)], [(None,)])
    masked.sql("SELECT envelope.unmask('person', 'ssn', 'bob'), envelope.mask('person', 'ssn', 'alice', 'clear')")
    assert (alice.execute(read).fetchall(), bob.execute(read).fetchall()) == ([("5d1e-00001",)], [("***01",)])
    masked.sql("SELECT envelope.unmask('person', 'ssn')")
    assert bob.execute(read).fetchall() == [("5d1e-00001",)]


def test_without_its_rules_a_masked_view_shows_nothing(masked: Database) -> None:
    masked.sql("DELETE FROM envelope_private.mask")
    assert failure(masked.connect("bob"), "SELECT email FROM person").sqlstate == "42501"
    assert masked.one("SELECT email FROM person WHERE id = 1") == CLEAR_EMAIL
    masked.sql("CALL envelope.refresh('person')")
    assert masked.sql("SELECT email FROM person WHERE id = 1", user="bob") == [(CLEAR_EMAIL,)]


def test_a_forged_token_opens_nothing_that_the_session_has_opened(masked: Database) -> None:
    """With an envelope from a stolen backup, in a session that has the column's key."""
    stolen = masked.one("SELECT email FROM person_encrypted WHERE id = 1")
    column = masked.one("SELECT field_uuid::text FROM envelope.columns WHERE \"column\" = 'email'")
    for role in ("alice", "bob"):
        session = masked.connect(role)
        # The last row is NULL in all but one column, and takes the careful path.
        for read in ("SELECT email FROM person", "SELECT email, ssn FROM person ORDER BY id"):
            session.execute(read)
            rule = session.execute(
                "SELECT uuid_send(envelope_internal.mask_of(%s, current_user))", [column]
            ).fetchall()[0][0]
            for token in (b"", b"\0", bytes(16), bytes(32), bytes(16) + rule, rule, rule * 2, bytes(40) + rule, None):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    session.execute("SELECT envelope_internal.decrypt_text_masked(%s, %s, '1')", [stolen, token])


def test_a_transaction_that_takes_its_rule_back_changed_nothing(masked: Database) -> None:
    with masked.admin.transaction(force_rollback=True):
        masked.sql("SELECT envelope.unmask('person', 'email')")
    assert masked.sql("SELECT email FROM person WHERE id = 1", user="alice") == [("a***@example.org",)]
