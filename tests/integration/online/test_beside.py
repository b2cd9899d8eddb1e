"""Readers and writers beside a roll-out there and back: no statement fails, and no value is wrong at any moment."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import psycopg

from tests.fix_load import rounds
from tests.fix_stack import Database
from tests.integration.online.fix_phases import CALLS, ROWS

Connection = psycopg.Connection[Any]
TABLE = """
CREATE TABLE account (id int PRIMARY KEY, owner text NOT NULL, amount int NOT NULL, born date, note text);
INSERT INTO account SELECT i, 'owner ' || i, 100, date '2000-01-01' + i, 'note ' || i FROM generate_series(1, %s) i"""
PROTECT = """CALL envelope.protect('account', '["owner", "amount", "born"]', online => true, batch_size => 50)"""
UNPROTECT = "CALL envelope.unprotect('account', online => true, batch_size => 50)"
# What every snapshot must show: the sum stays, and each row has the values that belong to its key.
WRONG = """
SELECT count(*) FILTER (WHERE owner IS DISTINCT FROM 'owner ' || id OR born IS DISTINCT FROM date '2000-01-01' + id),
    sum(amount) - 100 * count(*), count(*) - %s FROM account WHERE id <= %s"""
NEWCOMERS = itertools.count(ROWS + 1)


class Crowd:
    """Threads that repeat something until they are stopped, each in a session of its own."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.failures: list[str] = []
        self.rounds: dict[str, int] = {}

    def add(self, name: str, act: Callable[[Connection], None]) -> None:
        self.rounds[name] = 0
        self._threads.append(threading.Thread(target=self._repeat, args=(name, act)))
        self._threads[-1].start()

    def _repeat(self, name: str, act: Callable[[Connection], None]) -> None:
        with self._db.stack.connect(self._db.name) as connection:
            for _ in rounds(self._stop):
                try:
                    act(connection)
                    self.rounds[name] += 1
                except Exception as error:
                    self.failures.append(f"{name}: {error!r}")
                    return

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


def reads(connection: Connection) -> None:
    assert connection.execute(WRONG, (ROWS, ROWS)).fetchall() == [(0, 0, 0)]


def reads_twice(connection: Connection) -> None:
    """An old snapshot reads the same after the rows have changed their form."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        first = connection.execute("SELECT md5(string_agg(a::text, ',' ORDER BY id)) FROM account a").fetchall()
        connection.execute("SELECT pg_sleep(0.2)")
        assert connection.execute("SELECT md5(string_agg(a::text, ',' ORDER BY id)) FROM account a").fetchall() == first


def moves(connection: Connection) -> None:
    """Takes from one account and gives to another."""
    one, other = sorted(random.sample(range(1, ROWS + 1), 2))
    with connection.transaction():
        for which, change in ((one, -7), (other, 7)):
            connection.execute("SELECT FROM account WHERE id = %s FOR UPDATE", (which,))
            connection.execute("UPDATE account SET amount = amount + %s WHERE id = %s", (change, which))


def writes_open_columns(connection: Connection) -> None:
    """A view cannot compute with a row that a mover changed meanwhile: docs/protected-tables.md."""
    with suppress(psycopg.errors.SerializationFailure):
        connection.execute("UPDATE account SET note = note || '.' WHERE id = %s", (random.randint(1, ROWS),))


def comes_and_goes(connection: Connection) -> None:
    key = next(NEWCOMERS)
    connection.execute("DELETE FROM account WHERE id = %s", (key - 1 + 1000 * ROWS,))
    row = (key, f"owner {key}", 100, "2001-01-01", None)
    connection.execute("INSERT INTO account VALUES (%s, %s, %s, %s, %s) RETURNING id", row)
    connection.execute("UPDATE account SET id = id + %s WHERE id = %s", (1000 * ROWS, key))


ACTS = {
    "reader": reads,
    "old snapshot": reads_twice,
    "mover": moves,
    "another mover": moves,
    "note": writes_open_columns,
    "newcomer": comes_and_goes,
}


def test_nobody_notices(db: Database) -> None:
    db.sql(TABLE % ROWS)
    crowd = Crowd(db)
    with ExitStack() as stack:
        stack.callback(crowd.stop)
        for name, act in ACTS.items():
            crowd.add(name, act)
        for call in (PROTECT, UNPROTECT, PROTECT):
            db.sql(call)
            assert crowd.failures == []
    assert crowd.failures == []
    assert min(crowd.rounds.values()) > 0, crowd.rounds
    reads(db.admin)
    assert db.one("SELECT count(*) FROM account_encrypted WHERE owner_plain IS NOT NULL OR owner IS NULL") == 0
    wrong = "SELECT count(*) FROM account WHERE id > %s AND owner <> 'owner ' || id %% %s"
    assert db.one(wrong, ROWS, 1000 * ROWS) == 0


def takes_a_name(connection: Connection) -> None:
    """A value that another row has is refused, whatever form that row is in."""
    taken = random.randint(1, ROWS)
    for write in ("INSERT INTO account VALUES (-1, %s, 100)", "UPDATE account SET owner = %s WHERE id = -2"):
        try:
            connection.execute(write, (f"owner {taken}",))
        except (psycopg.errors.UniqueViolation, psycopg.errors.SerializationFailure):
            continue
        raise AssertionError(f"owner {taken} is there twice")


def changes_its_name(connection: Connection) -> None:
    with suppress(psycopg.errors.SerializationFailure):
        connection.execute("UPDATE account SET owner = %s WHERE id = -2", (f"nobody {random.random()}",))


def test_nothing_is_there_twice_at_any_moment(db: Database) -> None:
    """The indexes of the values stand until those of the tokens do."""
    db.sql(TABLE % ROWS)
    db.sql("ALTER TABLE account ADD UNIQUE (owner); CREATE INDEX ON account (born)")
    db.sql("INSERT INTO account VALUES (-2, 'nobody', 0)")
    crowd = Crowd(db)
    with ExitStack() as stack:
        stack.callback(crowd.stop)
        acts = {"taker": takes_a_name, "another taker": takes_a_name, "changer": changes_its_name, "mover": moves}
        for name, act in {**acts, "newcomer": comes_and_goes}.items():
            crowd.add(name, act)
        db.sql(PROTECT)
    assert crowd.failures == []
    assert min(crowd.rounds.values()) > 0, crowd.rounds
    assert db.one("SELECT count(*) - count(DISTINCT owner) FROM account") == 0
    assert (
        db.one("SELECT count(*) FROM account a WHERE NOT EXISTS (SELECT FROM account WHERE owner_search = a.owner)")
        == 0
    )


def test_a_session_with_prepared_statements_goes_on(person: Database) -> None:
    """Its plans are of the plain table at first."""
    with person.stack.connect(person.name, prepare_threshold=0) as session:
        queries = {
            "SELECT email, note FROM person WHERE id = %s": [("value 5", "note 5")],
            "UPDATE person SET note = note WHERE id = %s RETURNING email": [("value 5",)],
        }
        for act in ("nothing", *CALLS):
            if act in CALLS:
                person.sql(CALLS[act])
            for query, result in queries.items():
                assert session.execute(query, (5,)).fetchall() == result
