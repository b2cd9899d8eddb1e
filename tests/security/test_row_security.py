"""Tables with row-level security: policies keep filtering, and the right to a column is the caller's own."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database
from tests.security.fix_people import DENIED, failure, field_uuid, protect, value

Connection = psycopg.Connection[Any]

NOTES = """
CREATE TABLE note (id int PRIMARY KEY, author name NOT NULL DEFAULT current_user, body text, code text);
ALTER TABLE note OWNER TO owner;
INSERT INTO note VALUES (1, 'alice', 'of alice', 'a'), (2, 'bob', 'of bob', 'b'), (3, 'carol', 'for all', 'c');
ALTER TABLE note ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON note USING (author = current_user);
CREATE POLICY bob_reads_carol ON note FOR SELECT TO bob USING (author = 'carol');
GRANT SELECT, INSERT, UPDATE, DELETE ON note TO alice, bob;
"""
INVOKER = "SELECT reloptions @> '{security_invoker=true}' FROM pg_class WHERE oid = 'note'::regclass"


@pytest.fixture
def notes(db: Database) -> Database:
    db.sql(NOTES)
    protect(db, "note", '["body", "code"]')
    return db


def bodies(connection: Connection) -> list[str]:
    return [body for (body,) in connection.execute("SELECT body FROM note ORDER BY id").fetchall()]


def test_each_role_sees_its_rows(notes: Database, alice: Connection, bob: Connection, owner: Connection) -> None:
    assert bodies(alice) == ["of alice"]
    assert bodies(bob) == ["of bob", "for all"]
    assert bodies(owner) == bodies(notes.admin) == ["of alice", "of bob", "for all"]


def test_one_session_that_changes_roles(notes: Database) -> None:
    session = notes.connect()
    seen = []
    for role in ("alice", "bob", "owner", "alice"):
        session.execute(f"SET ROLE {role}")
        seen.append(len(bodies(session)))
    assert seen == [1, 2, 3, 1]


def test_writes_are_filtered(notes: Database, alice: Connection) -> None:
    assert alice.execute("UPDATE note SET body = 'changed'").rowcount == 1
    assert alice.execute("DELETE FROM note WHERE id = 2").rowcount == 0
    alice.execute("INSERT INTO note (id, body) VALUES (4, 'new')")
    assert failure(alice, "INSERT INTO note (id, author, body) VALUES (5, 'bob', 'forged')").sqlstate == DENIED
    assert failure(alice, "UPDATE note SET author = 'bob'").sqlstate == DENIED
    assert bodies(alice) == ["changed", "new"]
    assert bodies(notes.admin) == ["changed", "of bob", "for all", "new"]


def test_the_view_stays_an_invoker_view(notes: Database, alice: Connection) -> None:
    assert notes.one(INVOKER) is True
    notes.sql("ALTER TABLE note_encrypted ADD extra text")
    notes.sql("CALL envelope.refresh('note')")
    assert notes.one(INVOKER) is True
    assert bodies(alice) == ["of alice"]


def test_row_security_off_shows_no_more(notes: Database, alice: Connection) -> None:
    alice.execute("SET row_security = off")
    assert failure(alice, "SELECT body FROM note").sqlstate == DENIED


def test_revoke_counts_from_the_next_statement(notes: Database, alice: Connection) -> None:
    envelope = bytes(notes.one("SELECT body FROM note_encrypted WHERE id = 1"))
    by_hand = "SELECT envelope_internal.decrypt_text_as_role(%s, %s, '1')"
    uuid = field_uuid(notes, "body", "note")
    assert value(alice, by_hand, envelope, uuid) == "of alice"
    notes.sql("REVOKE ALL ON note, note_encrypted FROM alice")
    assert failure(alice, "SELECT body FROM note").sqlstate == DENIED
    assert failure(alice, by_hand, envelope, uuid).sqlstate == DENIED
    write = "SELECT envelope_internal.encrypt_text_as_role('x', %s, '1')"
    assert failure(alice, write, uuid).sqlstate == DENIED


def test_columns_one_by_one(notes: Database, alice: Connection) -> None:
    notes.sql("REVOKE ALL ON note, note_encrypted FROM alice")
    notes.sql("GRANT SELECT (id, author, body) ON note TO alice; GRANT SELECT ON note_encrypted TO alice")
    assert bodies(alice) == ["of alice"]
    assert failure(alice, "SELECT code FROM note").sqlstate == DENIED
    stolen = bytes(notes.one("SELECT code FROM note_encrypted WHERE id = 1"))
    statement = "SELECT envelope_internal.decrypt_text_as_role(%s, %s, '1')"
    assert failure(alice, statement, stolen, field_uuid(notes, "code", "note")).sqlstate == DENIED


def test_a_column_less_takes_the_right_to_that_one_only(notes: Database, alice: Connection) -> None:
    """A session asks for the columns of a table together, once it has read them."""
    read = "SELECT body, code FROM note"
    assert alice.execute(read).fetchall() == [("of alice", "a")]
    notes.sql("REVOKE SELECT ON note FROM alice")
    notes.sql("GRANT SELECT (id, author, code) ON note TO alice; GRANT SELECT ON note_encrypted TO alice")
    assert value(alice, "SELECT code FROM note") == "a"
    stolen = bytes(notes.one("SELECT body FROM note_encrypted WHERE id = 1"))
    statement = "SELECT envelope_internal.decrypt_text_as_role(%s, %s, '1')"
    assert failure(alice, statement, stolen, field_uuid(notes, "body", "note")).sqlstate == DENIED
    notes.sql("GRANT SELECT ON note TO alice")
    assert alice.execute(read).fetchall() == [("of alice", "a")]


def test_a_column_that_is_dropped_takes_no_other_with_it(notes: Database, alice: Connection) -> None:
    assert alice.execute("SELECT body, code FROM note").fetchall() == [("of alice", "a")]
    notes.sql("DROP VIEW note CASCADE; ALTER TABLE note_encrypted DROP COLUMN code")
    notes.sql("CALL envelope.refresh('note_encrypted'); GRANT SELECT ON note TO alice")
    assert bodies(alice) == ["of alice"]


def test_a_role_that_writes_only_reads_nothing(notes: Database) -> None:
    notes.sql("REVOKE ALL ON note, note_encrypted FROM alice; GRANT INSERT ON note, note_encrypted TO alice")
    stolen = bytes(notes.one("SELECT body FROM note_encrypted WHERE id = 1"))
    statement = "SELECT envelope_internal.decrypt_text_as_role(%s, %s, '1')"
    assert failure(notes.connect("alice"), statement, stolen, field_uuid(notes, "body", "note")).sqlstate == DENIED


def test_a_security_definer_function_reads_as_its_owner(notes: Database, owner: Connection, alice: Connection) -> None:
    owner.execute("CREATE FUNCTION body(int) RETURNS text LANGUAGE sql SECURITY DEFINER"
                  " AS 'SELECT body FROM note WHERE id = $1'")  # fmt: skip
    assert value(alice, "SELECT body(2)") == "of bob"


def test_a_column_that_one_role_may_read_says_nothing_of_another_role(notes: Database) -> None:
    """The session has just learned where the columns are: the grants are asked for all the same."""
    notes.sql("REVOKE SELECT ON note FROM bob; GRANT SELECT (id, author, code) ON note TO bob")
    session = notes.connect()
    body, code = (bytes(notes.one(f"SELECT {name} FROM note_encrypted WHERE id = 1")) for name in ("body", "code"))
    by_hand = "SELECT envelope_internal.decrypt_text_as_role(%s, %s, '1')"
    for _ in range(2):
        session.execute("SET ROLE alice")
        assert value(session, by_hand, body, field_uuid(notes, "body", "note")) == "of alice"
        assert value(session, by_hand, code, field_uuid(notes, "code", "note")) == "a"
        session.execute("SET ROLE bob")
        assert value(session, by_hand, code, field_uuid(notes, "code", "note")) == "a"
        assert failure(session, by_hand, body, field_uuid(notes, "body", "note")).sqlstate == DENIED


def test_a_column_grant_that_is_taken_away_counts_from_the_next_statement(notes: Database) -> None:
    notes.sql("REVOKE SELECT ON note FROM alice; GRANT SELECT (id, author, body, code) ON note TO alice")
    session = notes.connect()
    session.execute("SET ROLE alice")
    body = bytes(notes.one("SELECT body FROM note_encrypted WHERE id = 1"))
    by_hand = "SELECT envelope_internal.decrypt_text_as_role(%s, %s, '1')"
    uuid = field_uuid(notes, "body", "note")
    assert [value(session, by_hand, body, uuid) for _ in range(2)] == ["of alice"] * 2
    notes.sql("REVOKE SELECT (body) ON note FROM alice")
    assert failure(session, by_hand, body, uuid).sqlstate == DENIED
    notes.sql("GRANT SELECT (body) ON note TO alice")
    assert value(session, by_hand, body, uuid) == "of alice"


def test_a_table_that_is_unprotected_and_protected_again_is_read_at_once(notes: Database) -> None:
    session = notes.connect()
    session.execute("SET ROLE alice")
    assert bodies(session) == bodies(session) == ["of alice"]
    notes.sql("CALL envelope.unprotect('note')")
    assert bodies(session) == ["of alice"]
    protect(notes, "note", '["body"]')
    assert bodies(session) == ["of alice"]
