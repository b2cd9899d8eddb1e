"""kill -9 of backend, server, broker and OpenBao within each procedure: nothing is lost, and all can go on."""

from __future__ import annotations

import pytest

from .kills import Proof
from .victims import VICTIMS, Victim

# A procedure may be over before its moment. `make proof` then tries others, so that all points count.
TRIES = 3


@pytest.mark.parametrize("victim", VICTIMS, ids=lambda victim: victim.name)
def test_nothing_is_lost_and_all_can_go_on(proof: Proof, victim: Victim, points: int | None, seed: int) -> None:
    result = proof.run(victim, points or 1, TRIES if points else 1)
    print(f"\nPROOF_SEED={seed}\n{result.table()}")
    assert not result.failures, "\n".join([f"PROOF_SEED={seed}", *result.failures])
