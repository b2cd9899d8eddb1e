"""What an operator and a bad day do meanwhile, each announced: rotations, revocations, erasures, restarts, seals."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg

from stack.processes import wait_until
from stack.stack import Stack

from ..victims import WAIT, recovered
from .board import Board
from .clients import TENANTS

# How long a trouble lasts: every client meets it several times.
LASTS = 1.5
PAUSE = 0.5
CHANGED, AWAY, SUSPENDED = "40001", "58000", "55000"


class Operator:
    """One superuser's session. `erased` is whose keys were destroyed and whose row is still there."""

    def __init__(self, stack: Stack, database: str, board: Board, seed: int) -> None:
        self._stack, self._database, self._board = stack, database, board
        self._session: psycopg.Connection[Any] = stack.connect(database)
        self._chance = random.Random(f"{seed} operator")
        self.erased: list[int] = []
        self.done: Counter[str] = Counter()
        self.now = ""
        self._waiting: list[Callable[[], None]] = []

    def close(self) -> None:
        self._session.close()

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        cursor = self._session.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []

    @property
    def acts(self) -> tuple[Callable[[], None], ...]:
        """All but the restart of the broker, which ends the life whose memory is looked at."""
        return (self.rotate, self.rotate_tenants, self.rotate_kek, self.emergency, self.suspend, self.shred,
                self.flush, self.seal, self.restart_kms, self.reload)  # fmt: skip

    @property
    def all_done(self) -> bool:
        return len(self.done) > len(self.acts)

    @property
    def all_done_again(self) -> bool:
        """Each act has happened twice: the broker has needed what memory it needs for each."""
        return all(self.done[act.__name__] > 1 for act in self.acts)

    def step(self) -> None:
        """The next act: each once, in a new order each time."""
        if not self._waiting:
            self._waiting = self._chance.sample(self.acts, len(self.acts))
        self.do(self._waiting.pop())

    def do(self, act: Callable[[], None]) -> None:
        self.now = act.__name__
        act()
        self.done[act.__name__] += 1
        time.sleep(PAUSE)

    def rotate(self) -> None:
        with self._board.announce("rotation", CHANGED):
            self.sql("SELECT envelope.rotate('person')")
            self.sql("SELECT envelope.rotate_field('person', 'value')")
            self.sql("CALL envelope.reencrypt('person', 50)")

    def rotate_tenants(self) -> None:
        with self._board.announce("rotation", CHANGED):
            self.sql("SELECT envelope.rotate('visit')")
            self.sql("CALL envelope.reencrypt('visit', 50)")

    def rotate_kek(self) -> None:
        with self._board.announce("rotation of the KEK", CHANGED):
            self.sql("CALL envelope.rotate_kek('default')")

    def emergency(self) -> None:
        with self._board.announce("emergency", CHANGED):
            self.sql("CALL envelope.rotate_emergency('visit', 'soak', scope => %s)", self._tenant())

    def suspend(self) -> None:
        """Denied from when suspend() has returned until unsuspend() is called."""
        tenant = self._tenant()
        with self._board.announce("revocation", SUSPENDED, CHANGED, only=tenant):
            self.sql("CALL envelope.suspend('visit', %s, 'soak')", tenant)
            with self._board.deny(tenant):
                time.sleep(LASTS)
            self.sql("CALL envelope.unsuspend('visit', %s)", tenant)

    def shred(self) -> None:
        """Somebody of its own; the one before leaves, so that the last one is what verify() finds."""
        row = 1 + self.done["shred"]
        self.sql("INSERT INTO citizen VALUES (%s, 'to be erased')", row)
        self.sql("CALL envelope.shred('citizen', %s, 'soak')", str(row))
        if self.sql("SELECT value FROM citizen WHERE id = %s", row) != [(None,)]:
            self._board.surprise(f"citizen {row} reads after shred()")
        self.sql("DELETE FROM citizen WHERE id = ANY (%s)", self.erased)
        self.erased = [row]

    def flush(self) -> None:
        self.sql("SELECT envelope.flush('soak')")

    def seal(self) -> None:
        with self._board.announce("sealed KMS", AWAY):
            self._stack.openbao.seal()
            time.sleep(LASTS)
            self._stack.openbao.unseal()
            self._until_well()

    def restart_kms(self) -> None:
        with self._board.announce("restart of the KMS", AWAY):
            self._stack.openbao.restart()
            self._until_well()

    def reload(self) -> None:
        self._stack.broker.reload()

    def restart_broker(self) -> None:
        with self._board.announce("restart of the broker", AWAY):
            self._stack.broker.restart()
            self._until_well()

    def _until_well(self) -> None:
        wait_until(lambda: recovered(self._stack, self._database), WAIT, "recovery")

    def _tenant(self) -> str:
        return f"tenant {self._chance.randrange(TENANTS)}"
