"""A soak: real clients for as long as asked, while an operator and a bad day go on; then everything is verified."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg

from stack.postgres import Cluster
from stack.processes import wait_until
from stack.stack import DATABASE as APP
from stack.stack import Stack

from ..victims import WAIT
from .acts import PAUSE, Operator
from .board import Board
from .clients import CLIENTS, TABLES, Client, StandbyReader
from .memory import FROM, TO, Series

DATABASE = "soak"
ROLE = "soaker"
GUESTS = 2
# A restart of the broker each so often, while memory is not looked at yet.
SAMPLES, LINES = 200, 60
BROKER_RESTARTS = 3
# In less time a process that has just begun still grows, and clients that wait for a restart count as open files.
JUDGED_SECONDS = 300


class Watch:
    """Samples memory and prints how it goes, in a thread of its own."""

    def __init__(self, soak: Soak) -> None:
        self._soak = soak
        self.series: dict[str, Series] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        taken = 0
        while not self._stop.wait(max(0.2, self._soak.seconds / SAMPLES)):
            for name, pid in self._soak.processes():
                self.series.setdefault(name, Series(name)).take(self._soak.share, pid)
            taken += 1
            if taken % max(1, SAMPLES // LINES) == 0:
                print(self._soak.line(self.series), flush=True)


class Soak:
    """Of so many seconds; `run` makes the database and does it all, `report` has the figures."""

    def __init__(self, stack: Stack, standby: Callable[[], Cluster], seconds: float, seed: int) -> None:
        self._stack, self._make_standby, self.seconds, self._seed = stack, standby, seconds, seed
        self.board = Board()
        self._made()
        self.operator = Operator(stack, DATABASE, self.board, seed)
        self._clients: list[Client] = []
        self._began = time.monotonic()
        self._is_warm, self._warm = False, FROM

    def _made(self) -> None:
        with self._stack.connect("postgres") as connection:
            connection.execute(f"CREATE ROLE {ROLE} LOGIN")
            connection.execute(f"CREATE DATABASE {DATABASE} TEMPLATE {APP}")
        with self._stack.connect(DATABASE) as connection:
            connection.execute(TABLES)

    @property
    def share(self) -> float:
        """How much of the time is over."""
        return (time.monotonic() - self._began) / self.seconds

    def processes(self) -> list[tuple[str, int]]:
        """Those that live through all of it: the broker, and the backends of clients that stay."""
        steady = self._clients[GUESTS:]
        found = [(f"backend {n}", client.connection.info.backend_pid) for n, client in enumerate(steady, 1)]
        return [*found, ("broker", pid)] if (pid := self._stack.broker.pid) else found

    def run(self) -> None:
        """Fails on nothing by itself: `board.surprises` and `faults` say what is wrong."""
        standby = self._make_standby()
        reader = StandbyReader(self.board, lambda: standby.connect(DATABASE, ROLE))
        self._began = time.monotonic()
        self._clients = [
            Client(self.board, lambda: self._stack.connect(DATABASE, ROLE), n, self._seed, guest=n < GUESTS)
            for n in range(CLIENTS)
        ]
        self._watch = Watch(self)
        try:
            self._acts()
        finally:
            self._watch.end()
            reader.end()
            for client in self._clients:
                client.end()
        self._after(standby)

    def _acts(self) -> None:
        """The broker is restarted first and last; between them one broker lives through everything else."""
        for _ in range(BROKER_RESTARTS):
            self.operator.do(self.operator.restart_broker)
            time.sleep(FROM * self.seconds / BROKER_RESTARTS / 2)
        while self.share < TO or not self.operator.all_done:
            self.operator.step()
            if not self._is_warm and self.operator.all_done_again:
                self._is_warm, self._warm = True, max(FROM, self.share)
        self.operator.do(self.operator.restart_broker)

    def _after(self, standby: Cluster) -> None:
        """Each row reads as it was written last, here and on the standby; verify() finds none that does not open."""
        held = {key: value for client in self._clients for key, value in client.held.items()}
        self._compare("the primary", self.operator.sql, held)
        self.operator.sql("CALL envelope.verify()")
        faults = self.operator.sql("SELECT relation::text, (row_key::jsonb ->> 'id')::int, reason FROM envelope.faults")
        if faults != [("citizen", row, "key destroyed") for row in self.operator.erased]:
            self.board.surprise(f"verify() found {faults}, erased were {self.operator.erased}")
        (unfinished,) = self.operator.sql("SELECT count(*) FROM envelope.verifications WHERE finished_at IS NULL")
        if unfinished != (0,):
            self.board.surprise("verify() did not come to its end")
        for row in self.operator.sql("SELECT check_name, detail FROM envelope.status() WHERE state = 'failed'"):
            self.board.surprise(f"status: {row}")
        self._on_the_standby(standby, held)
        self.operator.close()

    def _on_the_standby(self, standby: Cluster, held: dict[tuple[str, int], str]) -> None:
        (position,) = self.operator.sql("SELECT pg_current_wal_lsn()")[0]
        replayed = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
        with standby.connect(DATABASE) as session:

            def there() -> bool:
                return session.execute(replayed, [position]).fetchone() == (True,)

            wait_until(there, WAIT, "the standby")
            self._compare("the standby", lambda query: session.execute(query).fetchall(), held)

    def _compare(self, where: str, sql: Callable[[str], list[Any]], held: dict[tuple[str, int], str]) -> None:
        tables = ("person", "visit", "citizen")
        try:
            found = {(t, row): value for t in tables for row, value in sql(f"SELECT id, value FROM {t}")}
        except psycopg.Error as error:
            self.board.surprise(f"at the end, on {where}: {error}")
            return
        gone = {("citizen", row): None for row in self.operator.erased}
        if found != held | gone:
            differ = [key for key in found.keys() | held.keys() if found.get(key) != (held | gone).get(key)]
            self.board.surprise(f"at the end, on {where}, {len(differ)} rows differ: {differ[:5]}")

    @property
    def faults(self) -> list[str]:
        """What is wrong, in words."""
        series = self._watch.series.values() if self.seconds >= JUDGED_SECONDS else ()
        return self.board.surprises + [fault for one in series for fault in one.faults(self._warm)]

    def line(self, series: dict[str, Series]) -> str:
        """How it goes, for who watches."""
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        latest = {name: one.samples[-1][1] / 1024 for name, one in series.items() if one.samples}
        threads = series["broker"].samples[-1][3] if latest.get("broker") else 0
        backends = [value for name, value in latest.items() if name != "broker"]
        statements, errors = self.board.statements.total(), self.board.announced_errors.total()
        return (
            f"  {minutes:3}:{seconds:02}  {statements:8,} statements  {errors:6,} announced errors"
            f"  {len(self.board.surprises)} others  {self.operator.done.total():4} acts, now {self.operator.now:14}"
            f"  broker {latest.get('broker', 0):5.1f} MB, {threads:2} threads"
            f"  backends {max(backends, default=0):5.1f} MB"
        )

    def report(self) -> str:
        """The figures, for docs/proof.md."""
        board = self.board
        parts = {"statements": board.statements, "announced errors": board.announced_errors, "acts": self.operator.done}
        lines = [f"\n{self.share * self.seconds:.0f} s, {PAUSE} s between acts"]
        for what, counter in parts.items():
            lines.append(f"{what}: {counter.total():,}")
            lines += [f"  {name:50} {count:10,}" for name, count in counter.most_common()]
        lines.append("memory: median of the first and of the last third")
        return "\n".join([*lines, *(series.line() for series in self._watch.series.values())])
