"""Writers and a reader beside an adoption that is killed: no value is lost, and none is encrypted twice."""

from __future__ import annotations

import random
import threading
from typing import Any

import psycopg
from cryptography.fernet import Fernet

from tests.fix_load import rounds
from tests.fix_stack import Database
from tests.integration.adoption.fix_legacy import ADOPT, CONVERT, KEY, make_patients
from tests.integration.operations.test_crash import kill_backend
from tests.integration.rotation.fix_jobs import Beside, until

# The writers convert rows, too, and the job must have some left at each kill.
ROWS, WRITERS, KILLS = 25_000, 4, 2
# Row i belongs to writer i % WRITERS, so each writer knows what its rows must hold.
SOME_DONE = "SELECT count(*) > 0 FROM envelope.progress WHERE what = 'adopt' AND state = 'running' AND rows > %s"
SLOWLY = "CALL envelope.convert('patient', batch_size => 200, pause_ms => 20)"
WRONG = "SELECT count(*) FROM patient WHERE ssn NOT LIKE 'ssn %'"
# A new value, the application's own ciphertext, another column, the key.
ACTS = ("clear", "encrypted", "name", "delete and insert")


class Writer:
    """Writes its rows until it is told to stop, and remembers what was committed or may have been."""

    def __init__(self, db: Database, number: int) -> None:
        self._db, self._number = db, number
        self.values: dict[int, set[str]] = {}
        self.failures: list[str] = []
        self.rounds = 0
        self._stop = threading.Event()
        self._fernet = Fernet(KEY)
        self._thread = threading.Thread(target=self._run)

    def start(self) -> Writer:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(120)

    def _run(self) -> None:
        random.seed(self._number)
        while not self._stop.is_set():
            try:
                with self._db.stack.connect(self._db.name) as connection:
                    self._write(connection)
            except psycopg.OperationalError:
                # The server is recovering from a kill.
                self._stop.wait(0.2)
            except psycopg.Error as error:
                self.failures.append(repr(error))
                return

    def _write(self, connection: psycopg.Connection[Any]) -> None:
        for _ in rounds(self._stop):
            row = random.randrange(self._number or WRITERS, ROWS + 1, WRITERS)
            self._one(connection, row, random.choice(ACTS))
            self.rounds += 1

    def _one(self, connection: psycopg.Connection[Any], row: int, act: str) -> None:
        value = f"ssn {row} by {self._number} in round {self.rounds}"
        before = self.values.get(row, {f"ssn {row}"})
        if act == "name":
            connection.execute("UPDATE patient SET name = %s WHERE id = %s", (value, row))
            return
        self.values[row] = before | {value}
        given = self._fernet.encrypt(value.encode()).decode() if act == "encrypted" else value
        if act == "delete and insert":
            with connection.transaction():
                connection.execute("DELETE FROM patient WHERE id = %s", (row,))
                connection.execute("INSERT INTO patient VALUES (%s, 'again', %s)", (row, value))
        else:
            connection.execute("UPDATE patient SET ssn = %s WHERE id = %s", (given, row))
        self.values[row] = {value}


def read_on(db: Database, stop: threading.Event, failures: list[str]) -> None:
    """Reads some rows again and again: each value is one of its row's."""
    while not stop.is_set():
        try:
            with db.stack.connect(db.name) as connection:
                for _ in rounds(stop):
                    first = random.randrange(ROWS)
                    rows = connection.execute(
                        "SELECT id, ssn FROM patient WHERE id BETWEEN %s AND %s", (first, first + 50)
                    ).fetchall()
                    failures += [str(row) for row in rows if not f"{row[1]} ".startswith(f"ssn {row[0]} ")]
        except psycopg.OperationalError:
            stop.wait(0.2)


def test_nothing_is_lost_and_nothing_is_sealed_twice(db: Database) -> None:
    db.durable()
    make_patients(db, ROWS)
    db.sql("ANALYZE patient")
    db.sql(ADOPT)
    stop, failures = threading.Event(), list[str]()
    reader = threading.Thread(target=read_on, args=(db, stop, failures))
    reader.start()
    writers = [Writer(db, number).start() for number in range(WRITERS)]
    for kill in range(KILLS):
        with Database(db.stack, db.name) as witness:
            job = Beside(witness, SLOWLY)
            until(witness, SOME_DONE, "some batches", 1000 * (kill + 1))
            kill_backend(db.stack, job.pid)
            job.end()
    with Database(db.stack, db.name) as again:
        again.sql("CALL envelope.convert('patient')")
        for writer in writers:
            writer.stop()
        stop.set()
        reader.join(120)
        assert [writer.failures for writer in writers] == [[]] * WRITERS
        assert failures == []
        assert min(writer.rounds for writer in writers) > 0
        again.sql(CONVERT)
        again.sql("CALL envelope.finish_adoption('patient', destroy_key => false)")
        found = dict(again.sql("SELECT id, ssn FROM patient"))
        known: dict[int, set[str]] = {}
        for writer in writers:
            known |= writer.values
        wrong = {row: value for row, value in found.items() if value not in known.get(row, {f"ssn {row}"})}
        assert wrong == {}
        assert len(found) == ROWS
        assert again.one(WRONG) == 0
