"""Logical replication of protected tables and their key catalog into another cluster, and the cut-over to it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from stack.postgres import Cluster
from stack.processes import wait_until
from stack.stack import Stack

Connection = psycopg.Connection[Any]

# As docs/runbooks/cut-over.md has it.
CATALOG = """
installation key dek field field_key key_grant client_grant tenant secret tombstone backup schedule kek_rotation
receipt"""
TABLES = ", ".join(f"envelope_private.{name}" for name in CATALOG.split())
NOT_OK = "SELECT check_name, detail FROM envelope.status() WHERE state <> 'ok' ORDER BY 1"
AFTER = "SELECT envelope.renew_capabilities()"


@pytest.fixture
def publisher(other_cluster: Cluster, empty_database: Callable[[str], str]) -> Iterator[Connection]:
    """A table with one key, rotated, one with a key for each row, and a named key; in a cluster that can publish."""
    other_cluster.settings["wal_level"] = "logical"
    other_cluster.restart()
    with other_cluster.connect(empty_database("shop")) as connection:
        connection.execute("CREATE EXTENSION pg_envelope CASCADE")
        connection.execute("CREATE TABLE person (id int PRIMARY KEY, email text)")
        connection.execute("INSERT INTO person SELECT i, 'old ' || i FROM generate_series(1, 200) i")
        connection.execute("""CALL envelope.protect('person', '["email"]')""")
        connection.execute("CREATE TABLE visit (id int PRIMARY KEY, note text)")
        connection.execute("""CALL envelope.protect('visit', '["note"]', scope => 'subject', scope_column => 'id')""")
        connection.execute("INSERT INTO visit SELECT i, 'old ' || i FROM generate_series(1, 100) i")
        connection.execute("SELECT envelope.rotate('person'); SELECT envelope.create_key('api')")
        connection.execute("SELECT envelope.encrypt('x'::text, 'api') FROM generate_series(1, 300)")
        connection.execute("CALL envelope.reencrypt('person')")
        connection.execute(f"CREATE PUBLICATION all_of_it FOR TABLE person_encrypted, visit_encrypted, {TABLES}")
        yield connection


@pytest.fixture
def subscriber(stack: Stack, other_cluster: Cluster, publisher: Connection) -> Iterator[Connection]:
    """A database with the publisher's schema, subscribed to all of it, and in step."""
    schema = subprocess.run(
        [other_cluster.bindir / "pg_dump", "--schema-only", "--no-publications", "shop"],
        env=other_cluster.environ("shop"), capture_output=True, check=True,
    ).stdout  # fmt: skip
    with stack.connect("postgres") as admin:
        admin.execute("CREATE DATABASE cut_over TEMPLATE template0")
        try:
            command = [stack.cluster.bindir / "psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-d", "cut_over"]
            subprocess.run(
                command, env=stack.cluster.environ("cut_over"), input=schema, capture_output=True, check=True
            )
            with stack.connect("cut_over") as connection:
                source = other_cluster.conninfo("shop").replace("'", "''")
                connection.execute(f"CREATE SUBSCRIPTION from_shop CONNECTION '{source}' PUBLICATION all_of_it")
                publisher.execute("INSERT INTO person VALUES (201, 'while it runs'); SELECT envelope.rotate('person')")
                publisher.execute("INSERT INTO visit VALUES (101, 'while it runs')")
                in_step(publisher, connection)
                connection.execute("ALTER SUBSCRIPTION from_shop DISABLE")
                connection.execute("DROP SUBSCRIPTION from_shop")
                yield connection
        finally:
            admin.execute("DROP DATABASE cut_over WITH (FORCE)")


def in_step(publisher: Connection, subscriber: Connection) -> None:
    states = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'"
    wait_until(lambda: subscriber.execute(states).fetchone() == (0,), 60, "the first copy")
    (lsn,) = publisher.execute("SELECT pg_current_wal_insert_lsn()").fetchone() or (None,)
    behind = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'from_shop' AND replay_lsn >= %s"
    wait_until(lambda: publisher.execute(behind, [lsn]).fetchone() == (1,), 60, "the last changes")


def assert_goes_on(connection: Connection) -> None:
    """Writes, new subjects, rotation and re-encryption, with ids that nobody has had."""
    connection.execute("INSERT INTO person VALUES (301, 'new'); INSERT INTO visit VALUES (201, 'new'), (202, 'newer')")
    connection.execute("UPDATE visit SET note = 'changed' WHERE id = 1")
    assert connection.execute("SELECT envelope.rotate('person')").fetchone() == (4,)
    assert connection.execute("SELECT envelope.rotate('visit', '2')").fetchone() == (2,)
    assert connection.execute("SELECT envelope.rotate_key('api')").fetchone() == (2,)
    connection.execute("CALL envelope.reencrypt('person')")
    connection.execute("SELECT envelope.encrypt('x'::text, 'api')")
    assert connection.execute("SELECT count(email) FROM person").fetchone() == (202,)
    assert connection.execute("SELECT count(note) FROM visit").fetchone() == (103,)


def test_the_runbook_s_steps_leave_nothing_behind(subscriber: Connection) -> None:
    subscriber.execute(AFTER)
    found = dict(subscriber.execute(NOT_OK).fetchall())
    assert found.keys() == {"original", "budget", "sequences"}
    assert "dek_id_seq, key_id_seq" in found["sequences"]
    assert subscriber.execute("SELECT envelope.mend_sequences()").fetchone() == (2 + 4,)
    subscriber.execute("SELECT envelope.this_is_the_original()")
    assert subscriber.execute(NOT_OK).fetchall() == []
    assert_goes_on(subscriber)
    assert subscriber.execute(NOT_OK).fetchall() == []
    assert subscriber.execute("SELECT envelope.mend_sequences()").fetchone() == (0,)


def test_the_catalog_mends_itself_where_a_step_was_forgotten(subscriber: Connection) -> None:
    subscriber.execute(AFTER)
    assert_goes_on(subscriber)
    # Keys of subjects that wrote nothing since are mended when they do.
    assert dict(subscriber.execute(NOT_OK).fetchall()).keys() == {"original", "budget"}
    for subject in range(1, 102):
        subscriber.execute("UPDATE visit SET note = 'changed' WHERE id = %s", [subject])
    assert dict(subscriber.execute(NOT_OK).fetchall()).keys() == {"original"}


@pytest.mark.parametrize("step", ["SELECT envelope.rotate('person')", "SELECT envelope.create_key('another')"])
def test_a_new_key_comes_first(subscriber: Connection, step: str) -> None:
    subscriber.execute(AFTER)
    subscriber.execute(step)
    subscriber.execute("INSERT INTO person VALUES (301, 'new'); INSERT INTO visit VALUES (1000, 'new')")
    assert subscriber.execute("SELECT count(email) FROM person").fetchone() == (202,)
