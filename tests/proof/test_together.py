"""Two administrators at once, and writers beside them: no lost update, no row twice, no deadlock."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterator
from functools import partial

import psycopg
import pytest

from stack.processes import wait_until
from stack.stack import Stack

from . import writers
from .procedures import MANY_KEYS, PROCEDURES, Procedure, make_protected
from .victims import VICTIMS, WAIT, Victim, recovered
from .world import World, Wrong

# What one of them may be told: that the other was quicker, or took its work over.
LATE = {"40001", "42P01", "42704", "42710", "55006", "57014"}
QUICK_PAIRS = (
    ("rotate_kek", "rotate_kek"),
    ("rotate", "rotate"),
    ("rotate_emergency", "rotate_emergency"),
    ("reencrypt", "reencrypt"),
    ("rotate_emergency", "rotate_kek"),
    ("rotate", "reencrypt"),
    ("protect", "protect"),
    ("reencrypt", "unprotect"),
)
SPREAD = 0.2
SECONDS = 2.0
LIFE = (
    "SELECT envelope.rotate('account')",
    "CALL envelope.reencrypt('account', 20)",
    "SELECT envelope.rotate_field('account', 'balance')",
    "CALL envelope.rotate_kek('default')",
    "CALL envelope.reencrypt('account', 20)",
    "CALL envelope.rotate_emergency('account', 'proof')",
)


@pytest.fixture(scope="module")
def world(durable: Stack) -> Iterator[World]:
    made = World(durable, "proof_together")
    made.make(protected=True)
    made.sql(MANY_KEYS)
    yield made
    made.disconnect()


def pairs(points: int | None) -> list[tuple[Procedure, Procedure]]:
    """Some, once; or all, several times."""
    named = {procedure.name: procedure for procedure in PROCEDURES}
    if points is None:
        return [(named[one], named[other]) for one, other in QUICK_PAIRS]
    return list(itertools.combinations_with_replacement(PROCEDURES, 2)) * max(1, points // 10)


def test_two_administrators_at_once(world: World, points: int | None, seed: int) -> None:
    chance = random.Random(f"{seed} together")
    print(f"\nPROOF_SEED={seed}")
    for one, other in pairs(points):
        at_once(world, one, other, chance)


def at_once(world: World, one: Procedure, other: Procedure, chance: random.Random) -> None:
    """Both do their work, or one is told that it came too late; nothing else is allowed to differ."""
    make_protected(world)
    # What needs a plain table makes it last.
    for procedure in sorted((one, other), key=lambda procedure: not procedure.protected):
        procedure.before(world)
    runs = [Attempt(world, procedure.statement(world), chance.uniform(0, SPREAD)) for procedure in (one, other)]
    for error in [run.end() for run in runs]:
        if error is not None and error.sqlstate not in LATE:
            raise Wrong(f"{one.name} and {other.name}: {error.sqlstate} {error}")
    if all(run.error is not None for run in runs):
        raise Wrong(f"{one.name} and {other.name}: neither was done: {runs[0].error}; {runs[1].error}")
    world.check()


class Attempt:
    """A statement in a session of its own, after a while."""

    def __init__(self, world: World, statement: str, after: float) -> None:
        self._connection = world.stack.connect(world.name)
        self.error: psycopg.Error | None = None
        self._thread = threading.Thread(target=self._run, args=(statement, after))
        self._thread.start()

    def _run(self, statement: str, after: float) -> None:
        time.sleep(after)
        try:
            self._connection.execute(statement)  # type: ignore[call-overload]
        except psycopg.Error as error:
            self.error = error

    def end(self) -> psycopg.Error | None:
        self._thread.join(WAIT)
        assert not self._thread.is_alive(), "a statement hangs"
        self._connection.close()
        return self.error


@pytest.fixture
def bank(durable: Stack) -> Iterator[World]:
    made = World(durable, "proof_bank")
    made.make(protected=True)
    made.sql(writers.TABLE)
    yield made
    made.disconnect()


def balances(world: World) -> dict[int, str]:
    world.sql("SELECT envelope.flush('proof')")
    found = world.sql("SELECT id, balance FROM account")
    assert len(found) == len(dict(found)) == 1 + writers.WRITERS * writers.ROWS_EACH
    return dict(found)


def all_write(threads: list[writers.Writer]) -> bool:
    return all(thread.counted for thread in threads)


def started(world: World, seed: int) -> list[writers.Writer]:
    return [writers.Writer(world.stack, world.name, number, seed) for number in range(writers.WRITERS)]


def test_no_write_is_lost_while_keys_live_their_whole_life(bank: World, points: int | None, seed: int) -> None:
    threads = started(bank, seed)
    ends, steps = time.monotonic() + (points or 1) * SECONDS, itertools.cycle(LIFE)
    done = 0
    while done < len(LIFE) or time.monotonic() < ends:
        bank.sql(next(steps))
        done += 1
    for thread in threads:
        thread.end()
        assert thread.error is None, thread.error
    told = [sum(thread.counted for thread in threads), sum(thread.refused for thread in threads), done]
    print("\n  {} writes, {} refused and repeated, {} procedures".format(*told))
    writers.check(threads, balances(bank))
    bank.sql("CALL envelope.reencrypt('account')")
    bank.check_no_old("account_encrypted", "balance")
    bank.check()


@pytest.mark.parametrize("victim", VICTIMS[:2], ids=lambda victim: victim.name)
def test_what_was_acknowledged_survives_a_crash(bank: World, victim: Victim, points: int | None, seed: int) -> None:
    chance = random.Random(f"{seed} bank {victim.name}")
    for _ in range(points or 1):
        bank.sql("UPDATE account SET balance = '0'")
        bank.sql("SELECT envelope.rotate('account')")
        threads = started(bank, chance.randrange(10**6))
        session, statement = bank.session, Attempt(bank, LIFE[1], 0)
        wait_until(partial(all_write, threads), WAIT, "the first writes")
        time.sleep(chance.uniform(0, 0.3))
        victim.kill(bank.stack, [session.info.backend_pid])
        victim.restore(bank.stack)
        statement.end()
        bank.disconnect()
        wait_until(lambda: recovered(bank.stack, bank.name), WAIT, "recovery")
        for thread in threads:
            thread.end()
        writers.check(threads, balances(bank))
        bank.check()
