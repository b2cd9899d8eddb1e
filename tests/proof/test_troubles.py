"""The KMS sealed, hanging, rate-limited, or done with the broker's token, in the middle of every procedure."""

from __future__ import annotations

import time

import psycopg
import pytest

from stack.stack import Stack

from .kills import Proof
from .procedures import MANY_KEYS, REWRAP, check_kek, rotate_transit
from .test_kills import TRIES
from .troubles import TROUBLES, limited
from .victims import Victim
from .world import World

# Calls that a patient administrator makes while the KMS answers so few requests a second.
CALLS, PAUSE = 20, 1.0
RATE = 20


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
def test_nothing_is_lost_and_all_can_go_on(proof: Proof, trouble: Victim, points: int | None, seed: int) -> None:
    result = proof.run(trouble, points or 1, TRIES if points else 1)
    print(f"\nPROOF_SEED={seed}\n{result.table()}")
    assert not result.failures, "\n".join([f"PROOF_SEED={seed}", *result.failures])


def test_rewrap_comes_to_its_end_under_a_rate_limit_for_good(durable: Stack) -> None:
    """Each call may be stopped, but must leave less for the next."""
    world = World(durable, "proof_limited")
    world.make(protected=True)
    world.sql(MANY_KEYS)
    rotate_transit(world)
    with limited(durable, RATE):
        for _ in range(CALLS):
            try:
                world.sql(REWRAP)
            except psycopg.errors.SystemError:
                time.sleep(PAUSE)
            else:
                break
    check_kek(world)
    world.check()
    world.disconnect()
