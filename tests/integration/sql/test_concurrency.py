"""Two sessions at once: triggers act on what their statement read; a change since then must not be lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database

Connection = psycopg.Connection[Any]


@pytest.fixture
def db(shared_db: Database) -> Iterator[Database]:
    shared_db.sql("CREATE TABLE t (id int PRIMARY KEY, secret text, n int DEFAULT 0)")
    shared_db.sql("INSERT INTO t SELECT i, 's' || i FROM generate_series(1, 5) i")
    shared_db.sql("""CALL envelope.protect('t', '["secret"]')""")
    yield shared_db
    shared_db.sql("DROP TABLE t_encrypted CASCADE")


def wait_for_lock(db: Database, waiting: Connection) -> None:
    """Until `waiting` waits for a lock; the server tells when."""
    while not db.one("SELECT cardinality(pg_blocking_pids(%s)) > 0", waiting.info.backend_pid):
        pass


def in_background(call: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """A started thread, and where the call's result or error goes."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(call())
        except psycopg.Error as error:
            outcome.append(error.sqlstate)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


# first session's statement, second's, the second's outcome: rows, or the SQLSTATE
RACES = {
    "same column": ("UPDATE t SET n = n + 1 WHERE id = 1", "UPDATE t SET n = n + 1 WHERE id = 1", "40001"),
    "protected column": ("UPDATE t SET secret = 'x' WHERE id = 1", "UPDATE t SET n = 7 WHERE id = 1", "40001"),
    "other row": ("UPDATE t SET n = 1 WHERE id = 2", "UPDATE t SET n = 7 WHERE id = 1", 1),
    "update of a deleted row": ("DELETE FROM t WHERE id = 1", "UPDATE t SET n = 7 WHERE id = 1", 0),
    "delete of an updated row": ("UPDATE t SET n = 9 WHERE id = 1", "DELETE FROM t WHERE id = 1", 1),
    "delete of a deleted row": ("DELETE FROM t WHERE id = 1", "DELETE FROM t WHERE id = 1", 0),
    "nothing changed": ("UPDATE t SET secret = secret WHERE id = 1", "UPDATE t SET n = n + 1 WHERE id = 1", 1),
}


@pytest.mark.parametrize("race", RACES)
def test_read_committed_never_loses_an_update(db: Database, race: str) -> None:
    first_statement, second_statement, expected = RACES[race]
    first, second = db.connect(), db.connect()
    with first.transaction():
        first.execute(first_statement)
        thread, outcome = in_background(lambda: second.execute(second_statement).rowcount)
        if race != "other row":
            wait_for_lock(db, second)
    thread.join()
    assert outcome == [expected]


def test_repeatable_read_is_postgresqls_own_error(db: Database) -> None:
    first, second = db.connect(), db.connect()
    second.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM t")
    first.execute("UPDATE t SET n = 1 WHERE id = 1")
    with pytest.raises(psycopg.errors.SerializationFailure):
        second.execute("UPDATE t SET n = 2 WHERE id = 1")


def test_select_for_update_reads_the_newest_row_and_keeps_it(db: Database) -> None:
    first, second = db.connect(), db.connect()
    with first.transaction():
        first.execute("SELECT FROM t WHERE id = 1 FOR UPDATE")
        thread, outcome = in_background(
            lambda: second.execute(
                "WITH got AS (SELECT id, secret FROM t WHERE id = 1 FOR UPDATE) SELECT secret FROM got"
            ).fetchall()
        )
        wait_for_lock(db, second)
        first.execute("UPDATE t SET secret = 'newer' WHERE id = 1")
    thread.join()
    assert outcome == [[("newer",)]]


def test_workers_share_a_queue(db: Database) -> None:
    """SELECT ... FOR UPDATE SKIP LOCKED, then UPDATE: each job is done once."""
    job = "SELECT id FROM t WHERE n = 0 ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1"
    one, two = db.connect(), db.connect()
    taken = []
    with one.transaction(), two.transaction():
        for worker in (one, two):
            (number,) = worker.execute(job).fetchone() or (0,)
            taken.append(number)
            assert worker.execute("UPDATE t SET n = 1, secret = 'done' WHERE id = %s", (number,)).rowcount == 1
    assert taken == [1, 2]
    assert db.one("SELECT count(*) FROM t WHERE secret = 'done'") == 2


def test_own_changes_in_a_subtransaction_are_no_conflict(db: Database) -> None:
    """Two rows of the join hit the same row: the second is skipped, as on a plain table, and raises nothing."""
    connection = db.connect()
    with connection.transaction(), connection.transaction():
        statement = "UPDATE t SET n = v.x FROM (VALUES (8), (8)) v (x) WHERE id = 1"
        assert connection.execute(statement).rowcount == 1
    assert db.one("SELECT n FROM t WHERE id = 1") == 8


def test_a_row_that_a_trigger_withholds_is_skipped_without_an_error(db: Database) -> None:
    db.sql(
        "CREATE OR REPLACE FUNCTION withhold() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER withhold BEFORE UPDATE OR DELETE ON t_encrypted FOR EACH ROW EXECUTE FUNCTION withhold()"
    )
    for statement in ("UPDATE t SET n = 5", "DELETE FROM t"):
        assert db.connect().execute(statement).rowcount == 0
