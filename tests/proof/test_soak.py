"""A mixed load with troubles: minutes by `make soak`, less by `make proof`, a look by `make test`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stack.postgres import Cluster
from stack.stack import Stack
from tests.fix_standby import standby_of

from .conftest import SERVER, SETTINGS, add_rights
from .soak.soak import Soak

SHORT, SHORTEST = 60, 20
# Small enough that caches are full, and keys run out and come back, also in a short run.
CACHE = {"ttl_seconds": 10.0, "session_ttl_seconds": 10.0, "max_keys": 200}


@pytest.fixture
def seconds(points: int | None) -> float:
    minutes = os.environ.get("SOAK_MINUTES")
    return 60 * float(minutes) if minutes else SHORT if points else SHORTEST


@pytest.fixture
def soaked(tmp_path: Path) -> Iterator[Stack]:
    """A stack of its own, whose broker holds few keys for a short time."""
    made = Stack(tmp_path / "stack", postgres_settings=SERVER, broker_settings=SETTINGS | {"cache": CACHE})
    made.up()
    try:
        add_rights(made.openbao)
        yield made
    finally:
        made.down()


@pytest.fixture
def make_standby(soaked: Stack) -> Iterator[Callable[[], Cluster]]:
    """Streaming, at the same broker."""
    made: list[Cluster] = []

    def make() -> Cluster:
        made.append(standby_of(soaked.cluster, soaked.home / "standby", soaked.cluster.environment, SERVER))
        return made[-1]

    yield make
    for cluster in made:
        cluster.stop()
        shutil.rmtree(cluster.directory)


def test_a_mixed_load_meets_announced_errors_only_and_memory_is_flat(
    soaked: Stack, make_standby: Callable[[], Cluster], seconds: float, seed: int
) -> None:
    soak = Soak(soaked, make_standby, seconds, seed)
    print(f"\nPROOF_SEED={seed}, {seconds:.0f} s")
    soak.run()
    print(soak.report())
    assert not soak.faults, "\n".join([f"PROOF_SEED={seed}", *soak.faults])
