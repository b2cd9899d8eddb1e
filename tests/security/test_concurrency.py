"""Keys that change while sessions work: the switch is transactional, and nobody loses a value."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database
from tests.security.fix_people import failure, stored, value

Connection = psycopg.Connection[Any]
WRITE = "UPDATE people SET email = %s WHERE id = %s"


@pytest.fixture
def writer(people: Database) -> Connection:
    people.sql("GRANT SELECT, INSERT, UPDATE ON people TO alice")
    session = people.connect("alice")
    session.execute(WRITE, ("ann@example.org", 1))
    return session


def active(people: Database) -> bytes:
    """The header that the next write puts first."""
    key_id = people.one(
        """SELECT key_id FROM envelope.columns WHERE relation = 'people'::regclass AND "column" = 'email'"""
    )
    return b"\xe1\x01" + int(key_id).to_bytes(4, "big")


def header(people: Database, row: int) -> bytes:
    return stored(people, row=row)[:6]


def test_the_next_write_uses_the_new_key_and_old_values_stay_readable(people: Database, writer: Connection) -> None:
    old = active(people)
    people.sql("SELECT envelope.rotate('people')")
    writer.execute(WRITE, ("new@example.org", 2))
    assert (header(people, 1), header(people, 2)) == (old, active(people))
    assert old != active(people)
    assert writer.execute("SELECT email FROM people WHERE id < 3 ORDER BY id").fetchall() == [
        ("ann@example.org",),
        ("new@example.org",),
    ]


def test_a_rotation_counts_when_it_commits(people: Database, writer: Connection) -> None:
    old = active(people)
    with people.connect() as session, session.transaction(force_rollback=True):
        session.execute("SELECT envelope.rotate('people')")
        writer.execute(WRITE, ("meanwhile@example.org", 1))
        assert header(people, 1) == old
        session.execute("UPDATE people SET email = 'inside@example.org' WHERE id = 2")
        inside = value(session, "SELECT substr(email, 1, 6) FROM people_encrypted WHERE id = 2")
        assert inside != old
    writer.execute(WRITE, ("after@example.org", 1))
    assert header(people, 1) == header(people, 2) == old == active(people)
    assert value(writer, "SELECT email FROM people WHERE id = 2") == "ben@example.org"


def test_a_repeatable_read_transaction_works_on_with_what_it_sees(people: Database, writer: Connection) -> None:
    old = active(people)
    with writer.transaction():
        writer.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert value(writer, "SELECT email FROM people WHERE id = 1") == "ann@example.org"
        people.sql("SELECT envelope.rotate('people')")
        assert value(writer, "SELECT email FROM people WHERE id = 2") == "ben@example.org"
        writer.execute(WRITE, ("repeatable@example.org", 1))
        assert value(writer, "SELECT email FROM people WHERE id = 1") == "repeatable@example.org"
    assert header(people, 1) == old
    writer.execute(WRITE, ("next@example.org", 1))
    assert header(people, 1) == active(people) != old


def test_a_read_that_began_before_sees_values_under_the_new_key(people: Database, writer: Connection) -> None:
    """A cursor's snapshot is older than the key; the key is fetched all the same."""
    with writer.transaction():
        writer.execute("DECLARE c CURSOR FOR SELECT email FROM people ORDER BY id")
        assert value(writer, "FETCH c") == "ann@example.org"
        people.sql("SELECT envelope.rotate('people')")
        people.sql("UPDATE people SET email = 'changed@example.org'")
        assert value(writer, "FETCH c") == "ben@example.org"
    assert value(writer, "SELECT email FROM people WHERE id = 2") == "changed@example.org"


def test_two_rotations_at_once_give_two_versions(people: Database) -> None:
    first, second = people.connect(), people.connect()
    with first.transaction():
        assert value(first, "SELECT envelope.rotate('people')") == 2
        second.pgconn.send_query(b"SELECT envelope.rotate('people')")
        while people.one("SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s", second.info.backend_pid) == 0:
            pass
    results = []
    while (result := second.pgconn.get_result()) is not None:
        results.append((result.get_value(0, 0), result.error_message))
    assert results == [(b"3", b"")]
    assert people.sql("SELECT version, state FROM envelope.keys ORDER BY version") == [
        (1, "decrypt-only"),
        (2, "decrypt-only"),
        (3, "active"),
    ]
    people.sql(WRITE, "last@example.org", 1)
    assert header(people, 1) == active(people)


def test_a_destroyed_key_is_told_apart_from_a_bad_envelope(people: Database) -> None:
    people.sql("UPDATE envelope_private.dek SET state = 'destroyed'")
    people.sql("SELECT envelope.flush()")
    error = failure(people.connect(), "SELECT email FROM people WHERE id = 1")
    assert (error.sqlstate, error.message) == ("55000", "pg_envelope: the key was destroyed")
