"""Many sessions at once: protect() twice, beside writers, keys of one name, and a cold start of all sessions."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import psycopg

from stack.processes import wait_until
from stack.stack import Stack
from tests.fix_stack import Database

PROTECT = """CALL envelope.protect('person', '["email"]')"""
Outcome = str | list[tuple[Any, ...]]


def outcome(connection: psycopg.Connection[Any], statement: str) -> Outcome:
    """The rows, or the SQLSTATE."""
    try:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []
    except psycopg.Error as error:
        return error.sqlstate or str(error)


def at_once(db: Database, statements: Sequence[str]) -> list[Outcome]:
    """The outcome of each statement, each in a session of its own, all started together."""
    found: dict[int, Outcome] = {}
    start = threading.Barrier(len(statements))

    def run(number: int, connection: psycopg.Connection[Any]) -> None:
        start.wait()
        found[number] = outcome(connection, statements[number])

    threads = [threading.Thread(target=run, args=(i, db.connect())) for i in range(len(statements))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[i] for i in range(len(statements))]


def table(db: Database, rows: int = 100) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    db.sql(f"INSERT INTO person SELECT i, 'value ' || i FROM generate_series(1, {rows}) i")


def test_one_of_two_protects_wins_and_the_other_is_told(db: Database) -> None:
    table(db)
    outcomes = at_once(db, [PROTECT, PROTECT])
    assert [] in outcomes
    assert {"42710", "40001"} & set(map(str, outcomes))
    assert db.one("SELECT count(*) FROM person WHERE email = 'value ' || id") == 100
    assert db.one("SELECT count(*) FROM envelope.keys") == 1


def test_protect_waits_for_writers_and_misses_none_of_their_rows(db: Database) -> None:
    table(db)
    writer = db.connect(autocommit=False)
    writer.execute("INSERT INTO person VALUES (101, 'value 101')")
    protecting = db.connect()
    thread = threading.Thread(target=outcome, args=(protecting, PROTECT))
    thread.start()
    waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid = %s)"
    wait_until(lambda: bool(db.one(waits, protecting.info.backend_pid)), 60, "protect() waiting for the lock")
    writer.commit()
    thread.join()
    assert db.one("SELECT count(*) FROM person WHERE email = 'value ' || id") == 101
    assert db.one("SELECT count(*) FROM person_encrypted WHERE get_byte(email, 0) = 225") == 101


def test_writers_that_come_while_protect_runs_write_envelopes(db: Database) -> None:
    table(db, 2000)
    insert = "INSERT INTO person VALUES ({0}, 'value ' || {0})"
    outcomes = at_once(db, [PROTECT, *(insert.format(i) for i in range(3001, 3007))])
    refused = [found for found in outcomes if found != []]
    assert set(map(str, refused)) <= {"42809", "42P01", "42501", "XX000"}, refused
    expected = 2000 + 6 - len(refused)
    assert db.one("SELECT count(*) FROM person WHERE email = 'value ' || id") == expected
    assert db.one("SELECT count(*) FROM person_encrypted WHERE get_byte(email, 0) = 225") == expected


def test_a_name_is_given_once(db: Database) -> None:
    outcomes = at_once(db, ["SELECT count(envelope.create_key('k'))"] * 4)
    assert sorted(map(str, outcomes)) == ["42710", "42710", "42710", "[(1,)]"]
    assert db.one("SELECT count(*) FROM envelope.keys") == 1


def test_sixteen_sessions_start_cold_and_ask_the_kms_once(stack: Stack, db: Database) -> None:
    table(db)
    db.sql(PROTECT)
    db.sql("SELECT envelope.flush('cold')")
    before = unwraps(stack)
    outcomes = at_once(db, ["SELECT email FROM person WHERE id = 7"] * 16)
    assert outcomes == [[("value 7",)]] * 16
    assert unwraps(stack) == before + 1


def unwraps(stack: Stack) -> int:
    lines = stack.broker.page("metrics").splitlines()
    return sum(
        int(float(line.split()[-1]))
        for line in lines
        if line.startswith("pg_envelope_kms_requests_total") and "unwrap" in line
    )
