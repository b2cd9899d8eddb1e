"""Points: a moment within every procedure at once, at which one process is killed; then all go on, and are checked."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import psycopg

from stack.processes import wait_until
from stack.stack import Stack

from .procedures import Procedure
from .victims import WAIT, Victim, recovered
from .world import World

# How many points a database lives: keys and versions become more with each.
POINTS_A_WORLD = 10
SLACK = 0.05
LATEST = 0.95


class Run:
    """A procedure in a thread: begins at a given time, on the world's session."""

    def __init__(self, world: World, statement: str) -> None:
        self._session = world.session
        self.pid = self._session.info.backend_pid
        self.seconds = 0.0
        self.error: psycopg.Error | None = None
        self.under_way = self.ended = False
        self._statement = statement
        self._thread: threading.Thread | None = None

    def start(self, at: float) -> None:
        self._thread = threading.Thread(target=self._run, args=(at,))
        self._thread.start()

    def _run(self, at: float) -> None:
        time.sleep(max(0.0, at - time.monotonic()))
        began, self.under_way = time.monotonic(), True
        try:
            self._session.execute(self._statement)  # type: ignore[call-overload]
        except psycopg.Error as error:
            self.error = error
        self.seconds = time.monotonic() - began
        self.under_way, self.ended = False, True

    def join(self) -> None:
        assert self._thread is not None
        self._thread.join(WAIT)
        assert not self._thread.is_alive(), f"{self._statement} hangs"


@dataclass
class Result:
    """What came of one victim."""

    victim: str
    points: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def table(self) -> str:
        """A line for each procedure: at how many points it was under way, and how long it takes."""
        return "\n".join(
            f"  {self.victim:8} {name:18} {self.points[name]:4} points {1000 * seconds:7.0f} ms"
            for name, seconds in self.seconds.items()
        )


class Proof:
    """All procedures, each in a database of its own, all at once."""

    def __init__(self, stack: Stack, procedures: Sequence[Procedure], seed: int) -> None:
        self._stack, self._seed = stack, seed
        self._worlds = {procedure: World(stack, f"proof_{procedure.name}") for procedure in procedures}
        self._seconds: dict[Procedure, float] = {}
        self._age = 0
        self._pool = ThreadPoolExecutor(len(procedures))

    def run(self, victim: Victim, points: int, tries: int) -> Result:
        """So many moments; then more, up to `tries` times as many, until each procedure was under way at so many."""
        result, chance = Result(victim.name), random.Random(f"{self._seed} {victim.name}")
        for number in range(tries * points):
            wanted = [p for p in self._worlds if number < points or result.points[p.name] < points]
            if self._age % POINTS_A_WORLD == 0:
                self._for_all(result, self._worlds, "setting up", self._make)
                self._measure(result)
            if result.failures or not wanted:
                break
            self._age += 1
            self._point(result, wanted, victim, f"point {number}", chance)
        if result.failures:
            self._age = 0
        result.seconds = {p.name: seconds for p, seconds in self._seconds.items()}
        return result

    def close(self) -> None:
        self._pool.shutdown()
        self._disconnect()

    def _disconnect(self) -> None:
        for world in self._worlds.values():
            world.disconnect()

    def _make(self, procedure: Procedure) -> None:
        self._worlds[procedure].make(protected=procedure.protected)
        procedure.prepare(self._worlds[procedure])

    def _measure(self, result: Result) -> None:
        """How long each takes while the others run: nobody is killed."""
        runs = self._runs(result, self._worlds, "measuring")
        now = time.monotonic() + SLACK
        for run in runs.values():
            run.start(now)
        for procedure, run in runs.items():
            run.join()
            self._seconds[procedure] = run.seconds
            if run.error is not None:
                result.failures.append(f"{procedure.name}, nobody killed: {run.error}")
        self._for_all(result, runs, "nobody killed", self._check)

    def _runs(self, result: Result, procedures: Iterable[Procedure], when: str) -> dict[Procedure, Run]:
        self._for_all(result, procedures, when, lambda procedure: procedure.before(self._worlds[procedure]))
        return {p: Run(self._worlds[p], p.statement(self._worlds[p])) for p in procedures}

    def _point(
        self, result: Result, procedures: Iterable[Procedure], victim: Victim, point: str, chance: random.Random
    ) -> None:
        runs = self._runs(result, procedures, f"{point}, before")
        moment = time.monotonic() + SLACK + max(self._seconds[p] for p in runs)
        shares = {procedure: chance.uniform(0, LATEST) for procedure in runs}
        place = {p: f"{point}, {shares[p]:.3f} of {1000 * self._seconds[p]:.0f} ms" for p in runs}
        for procedure, run in runs.items():
            run.start(moment - shares[procedure] * self._seconds[procedure])
        time.sleep(max(0.0, moment - time.monotonic()))
        self._count(result, runs)
        victim.kill(self._stack, [run.pid for run in runs.values()])
        victim.restore(self._stack)
        for run in runs.values():
            run.join()
        self._disconnect()
        wait_until(lambda: recovered(self._stack, self._any().name), WAIT, "recovery")
        self._for_all(result, runs, "after the crash", lambda p: self._worlds[p].check_reads(), place)
        self._for_all(result, runs, "gone on", self._go_on, place)

    def _any(self) -> World:
        return next(iter(self._worlds.values()))

    def _count(self, result: Result, runs: Mapping[Procedure, Run]) -> None:
        for procedure, run in runs.items():
            result.points[procedure.name] += run.under_way
            if run.ended:
                # Quicker than measured: the next point's moment is within what it takes now.
                self._seconds[procedure] = (self._seconds[procedure] + run.seconds) / 2

    def _go_on(self, procedure: Procedure) -> None:
        procedure.go_on(self._worlds[procedure])
        self._check(procedure)

    def _check(self, procedure: Procedure) -> None:
        world = self._worlds[procedure]
        procedure.done(world)
        world.check_writes()
        world.check()

    def _for_all(
        self,
        result: Result,
        procedures: Iterable[Procedure],
        when: str,
        step: Callable[[Procedure], None],
        place: Mapping[Procedure, str] | None = None,
    ) -> None:
        def one(procedure: Procedure) -> None:
            try:
                step(procedure)
            except Exception as error:
                what = [result.victim, procedure.name, (place or {}).get(procedure, ""), when, type(error).__name__]
                result.failures.append(f"{', '.join(filter(None, what))}: {error}")

        list(self._pool.map(one, procedures))
