"""Writers as an application has them, who remember what the server acknowledged."""

from __future__ import annotations

import random
import threading
from typing import Any

import psycopg

from stack.stack import Stack
from tests.fix_load import rounds

WRITERS = 3
ROWS_EACH = 20
COUNTER = 0
TABLE = f"""
CREATE TABLE account (id int PRIMARY KEY, balance text);
INSERT INTO account SELECT id, '0' FROM generate_series(0, {WRITERS * ROWS_EACH}) id;
CALL envelope.protect('account', '["balance"]')"""
WRITE = "UPDATE account SET balance = %s WHERE id = %s"
COUNT = f"UPDATE account SET balance = (balance::int + 1)::text WHERE id = {COUNTER}"


class Writer:
    """Writes its own rows and the counter of all, in turn. `acknowledged` is what a row must hold; `open` what it may,
    because the answer was lost."""

    def __init__(self, stack: Stack, database: str, number: int, seed: int) -> None:
        self._connection = stack.connect(database)
        self._chance = random.Random(f"{seed} writer {number}")
        self._rows = range(1 + number * ROWS_EACH, 1 + (number + 1) * ROWS_EACH)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.acknowledged: dict[int, str] = dict.fromkeys(self._rows, "0")
        self.open: dict[int, str] = {}
        self.counted, self.maybe_counted, self.refused, self.skipped = 0, 0, 0, 0
        self.error: psycopg.Error | None = None
        self._thread.start()

    def _run(self) -> None:
        for written, _ in enumerate(rounds(self._stop), 1):
            row = self._chance.choice(self._rows)
            if self._write(WRITE, (str(written), row)):
                self.acknowledged[row] = str(written)
            elif self.error is not None:
                self.open[row] = str(written)
                return
            if self._write(COUNT):
                self.counted += 1
            elif self.error is not None:
                self.maybe_counted = 1
                return

    def _write(self, statement: str, values: tuple[object, ...] | None = None) -> bool:
        """Whether it was acknowledged. A refused write is not there; one whose answer was lost may be."""
        try:
            done = self._connection.execute(statement, values)  # type: ignore[call-overload]
        except psycopg.errors.SerializationFailure:
            self.refused += 1
            return False
        except psycopg.Error as error:
            self.error = error
            return False
        self.skipped += done.rowcount != 1
        return True

    def end(self) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "a writer hangs"
        self._connection.close()


def check(writers: list[Writer], found: dict[int, Any]) -> None:
    """Each row holds the last acknowledged value, or the one whose answer was lost; no count is missing or double."""
    for writer in writers:
        assert not writer.skipped, "an UPDATE of one row found none"
        for row, value in writer.acknowledged.items():
            assert found[row] in {value, writer.open.get(row, value)}, f"row {row}: {found[row]}, written {value}"
    counted = sum(writer.counted for writer in writers)
    lost_answers = sum(writer.maybe_counted for writer in writers)
    assert counted <= int(found[COUNTER]) <= counted + lost_answers, f"{found[COUNTER]} of {counted} counts"
    assert counted > 0
