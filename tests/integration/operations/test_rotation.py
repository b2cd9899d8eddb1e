"""Key versions: used at once, old ones readable, re-encryption under writes, and wrapped DEKs that were moved."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from stack.stack import Stack
from tests.fix_stack import Database

from .fix_kms_life import READ, failure

HEADER_VERSIONS = """
SELECT d.version, count(*) FROM person_encrypted t
JOIN envelope_private.field_key fk ON fk.key_id = ('x' || encode(substr(t.email, 3, 4), 'hex'))::bit(32)::bigint
JOIN envelope_private.dek d USING (dek_id) GROUP BY 1 ORDER BY 1"""
ROTATE = "SELECT envelope.rotate('person')"


def test_rotate_counts_at_once_here_and_elsewhere_after_commit(people: Database) -> None:
    elsewhere = people.connect()
    elsewhere.execute(READ)
    with people.connect(autocommit=False) as connection:
        assert connection.execute(ROTATE).fetchone() == (2,)
        connection.execute("INSERT INTO person VALUES (3, 'here')")
        elsewhere.execute("INSERT INTO person VALUES (4, 'before the commit')")
        connection.commit()
    assert people.sql(HEADER_VERSIONS) == [(1, 3), (2, 1)]
    elsewhere.execute("INSERT INTO person VALUES (5, 'after the commit')")
    assert people.sql(HEADER_VERSIONS) == [(1, 3), (2, 2)]
    assert people.one("SELECT count(email) FROM person") == 5


def test_a_rolled_back_rotation_never_was(people: Database) -> None:
    with people.connect(autocommit=False) as connection:
        connection.execute(ROTATE)
        connection.execute("INSERT INTO person VALUES (3, 'gone')")
        connection.rollback()
    people.sql("INSERT INTO person VALUES (3, 'kept')")
    assert people.sql(HEADER_VERSIONS) == [(1, 3)]
    assert people.sql("SELECT version, state FROM envelope.keys") == [(1, "active")]


def test_states_after_rotation(people: Database) -> None:
    people.sql(ROTATE)
    people.sql(ROTATE)
    states = [(1, "decrypt-only"), (2, "decrypt-only"), (3, "active")]
    assert people.sql("SELECT version, state FROM envelope.keys ORDER BY version") == states
    assert people.sql("SELECT key_version FROM envelope.columns") == [(3,)]


def in_threads(people: Database, *statements: str) -> list[str | None]:
    """Runs each statement in a session of its own, all at once; the SQLSTATEs."""
    found: dict[int, str | None] = {}
    start = threading.Barrier(len(statements))

    def run(number: int, connection: psycopg.Connection[Any]) -> None:
        start.wait()
        try:
            connection.execute(statements[number])
            found[number] = None
        except psycopg.Error as error:
            found[number] = error.sqlstate

    threads = [threading.Thread(target=run, args=(i, people.connect())) for i in range(len(statements))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[number] for number in sorted(found)]


def test_two_rotations_at_once_make_two_versions(people: Database) -> None:
    assert in_threads(people, ROTATE, ROTATE) == [None, None]
    assert people.sql("SELECT version FROM envelope.keys ORDER BY 1") == [(1,), (2,), (3,)]
    assert people.sql("SELECT count(*) FROM envelope.keys WHERE state = 'active'") == [(1,)]
    assert people.one("SELECT count(email) FROM person") == 2


def test_reencrypt_beside_writers_brings_every_value_to_the_newest_version(people: Database) -> None:
    people.sql("INSERT INTO person SELECT i, 'value ' || i FROM generate_series(3, 2000) i")
    people.sql(ROTATE)
    stop, problems = threading.Event(), []

    def write(connection: psycopg.Connection[Any], step: int) -> None:
        try:
            for i in range(step, 100_000, 2):
                if stop.is_set():
                    break
                connection.execute("UPDATE person SET email = email || '+' WHERE id = %s", [i % 2000 + 1])
                connection.execute("INSERT INTO person VALUES (%s, 'written meanwhile')", [i + 10_000])
                connection.execute("SELECT email FROM person WHERE id = %s", [2000 - i % 1000])
        except psycopg.Error as error:
            problems.append(error)

    writers = [threading.Thread(target=write, args=(people.connect(), step)) for step in (0, 1)]
    for writer in writers:
        writer.start()
    people.sql("CALL envelope.reencrypt('person', 100)")
    stop.set()
    for writer in writers:
        writer.join()
    assert problems == []
    assert [version for version, _ in people.sql(HEADER_VERSIONS)] == [2]
    wrong = "SELECT count(*) FROM person WHERE id BETWEEN 3 AND 2000 AND rtrim(email, '+') <> 'value ' || id"
    assert people.one(wrong) == 0
    assert people.one("SELECT count(*) FROM person WHERE id <= 2000") == 2000


def test_rotation_while_reencrypt_runs_is_caught_up(people: Database) -> None:
    people.sql("INSERT INTO person SELECT i, 'value ' || i FROM generate_series(3, 3000) i")
    people.sql(ROTATE)
    assert in_threads(people, "CALL envelope.reencrypt('person', 50)", ROTATE) == [None, None]
    people.sql("CALL envelope.reencrypt('person')")
    assert people.sql(HEADER_VERSIONS) == [(3, 3000)]


def test_named_keys_rotate_likewise(db: Database) -> None:
    db.sql("CREATE TABLE secret (id int, value envelope.ciphertext)")
    db.sql("SELECT envelope.create_key('k', store => 'catalog')")
    put = "INSERT INTO secret VALUES (%s, envelope.encrypt(%s::text, 'k', 'here'))"
    db.sql(put, 1, "first")
    assert db.one("SELECT envelope.rotate_key('k')") == 2
    db.sql(put, 2, "second")
    assert db.sql("SELECT envelope.decrypt(value, 'here') FROM secret ORDER BY id") == [("first",), ("second",)]
    assert db.one("SELECT count(DISTINCT substr(value, 1, 6)) FROM secret") == 2


@pytest.fixture(params=["catalog", "vault"])
def two_keys(request: pytest.FixtureRequest, db: Database) -> str:
    """Two tables, each with a key of its own in the store; its name."""
    for number, table in enumerate(("person", "other")):
        db.sql(f"CREATE TABLE {table} (id int PRIMARY KEY, email text)")
        db.sql(f"INSERT INTO {table} VALUES (1, '{number}')")
        db.sql(f"""CALL envelope.protect('{table}', '["email"]', store => '{request.param}')""")
    return str(request.param)


def entry(db: Database, dek_id: int) -> str:
    return f"kv/data/pg_envelope/{db.one('SELECT database_uuid::text FROM envelope_private.installation')}/{dek_id}"


def swap(stack: Stack, db: Database, store: str) -> None:
    """Gives each key the other's wrapped DEK, as somebody with all rights to the catalog or to KV could."""
    if store == "catalog":
        db.sql("""UPDATE envelope_private.dek d SET wrapped = o.wrapped, fingerprint = o.fingerprint
            FROM envelope_private.dek o WHERE o.dek_id <> d.dek_id""")
        return
    first, second = (stack.openbao.request("GET", entry(db, dek_id))["data"] for dek_id in (1, 2))
    for dek_id, here, there in ((1, first, second), (2, second, first)):
        body = {"data": there["data"], "options": {"cas": here["metadata"]["version"]}}
        stack.openbao.request("POST", entry(db, dek_id), body)


def test_a_wrapped_dek_moved_to_another_id_does_not_open(stack: Stack, db: Database, two_keys: str) -> None:
    swap(stack, db, two_keys)
    db.sql("SELECT envelope.flush('test')")
    sqlstate, text, hint = failure(db.admin, READ)
    assert (sqlstate, text) == ("XX001", "pg_envelope: a wrapped DEK cannot be unwrapped")
    assert "moved" in hint
    swap(stack, db, two_keys)
    db.sql("SELECT envelope.flush('test')")
    assert db.sql(READ) == [("0",)]


def test_a_wrapped_dek_of_another_database_does_not_open(db: Database, two_keys: str) -> None:
    """The whole catalog under another database uuid: with the store vault, there is no such entry either."""
    db.sql("UPDATE envelope_private.installation SET database_uuid = gen_random_uuid()")
    db.sql("SELECT envelope.flush('test')")
    expected = {
        "catalog": ("XX001", "pg_envelope: a wrapped DEK cannot be unwrapped"),
        "vault": ("42704", "pg_envelope: the key does not exist in its store"),
    }
    assert failure(db.connect(), READ)[:2] == expected[two_keys]


def test_an_edited_fingerprint_is_noticed_with_a_cached_dek_too(db: Database, two_keys: str) -> None:
    cold = db.connect()
    db.sql("UPDATE envelope_private.dek SET fingerprint = substr(sha256('x'), 1, 16) WHERE dek_id = 1")
    assert failure(cold, READ)[:2] == ("XX001", "pg_envelope: a wrapped DEK cannot be unwrapped")
    db.sql("SELECT envelope.flush('test')")
    assert failure(cold, READ)[:2] == ("XX001", "pg_envelope: a wrapped DEK cannot be unwrapped")


def test_a_destroyed_key_is_said_to_be_destroyed(people: Database) -> None:
    people.sql("UPDATE envelope_private.dek SET state = 'destroyed'")
    sqlstate, text, hint = failure(people.connect(), READ)
    assert (sqlstate, text) == ("55000", "pg_envelope: the key was destroyed")
    assert "cannot be read again" in hint


def test_an_entry_deleted_from_the_store_is_a_missing_key(stack: Stack, people: Database) -> None:
    place = entry(people, 1).replace("/data/", "/metadata/", 1)
    stack.openbao.request("DELETE", place)
    people.sql("SELECT envelope.flush('test')")
    assert failure(people.admin, READ)[:2] == ("42704", "pg_envelope: the key does not exist in its store")
