"""A stack that keeps what it commits, the seed, and the number of points: few, unless `make proof` asks for all."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from stack.openbao import OpenBao
from stack.stack import Stack

from .kills import Proof
from .procedures import OTHER_KEK, PROCEDURES, QUICK, Procedure

# Patient, for a machine with more to do: only what hangs is to run into a limit.
SETTINGS = {
    "broker": {"probe_seconds": 0.2, "deadline_ms": 9000},
    "kms": {"main": {"timeout_ms": 4000}},
    "kek": {OTHER_KEK: {"kms": "main", "key": "pg-envelope-other"}},
}
# A killed server has lost nothing that the kernel has: syncing file by file would only make each start long.
SERVER = {"recovery_init_sync_method": "syncfs"}
MAY_SHRED = 'path "kv/metadata/pg_envelope/*" { capabilities = ["delete"] }'
POLICY = "sys/policies/acl/pg-envelope-broker"


@pytest.fixture(scope="session")
def points() -> int | None:
    """How many moments within each procedure; None: as few as a quick test allows."""
    return int(os.environ.get("PROOF_POINTS") or 0) or None


@pytest.fixture(scope="session")
def chosen(points: int | None) -> Sequence[Procedure]:
    """All procedures, or those that do most."""
    return PROCEDURES if points else [procedure for procedure in PROCEDURES if procedure.name in QUICK]


@pytest.fixture(scope="session")
def seed() -> int:
    """The one given, or another each time; CI's is always the same."""
    given = os.environ.get("PROOF_SEED") or ("1" if os.environ.get("CI") else "")
    return int(given) if given else random.SystemRandom().randrange(10**6)


def add_rights(openbao: OpenBao) -> None:
    """A second KEK, with the same rights as the first, and the right to shred."""
    openbao.request("POST", "transit/keys/pg-envelope-other", {"type": "aes256-gcm96", "derived": True})
    policy = openbao.request("GET", POLICY)["data"]["policy"]
    more = policy.replace("pg-envelope-default", "pg-envelope-other")
    openbao.request("PUT", POLICY, {"policy": f"{policy}\n{more}\n{MAY_SHRED}"})


@pytest.fixture(scope="session")
def durable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own: fsync and synchronous_commit are as the server has them by default."""
    made = Stack(Path(tmp_path_factory.mktemp("stack")), postgres_settings=SERVER, broker_settings=SETTINGS)
    made.up()
    try:
        add_rights(made.openbao)
        yield made
    finally:
        made.down()


@pytest.fixture(scope="session")
def proof(durable: Stack, chosen: Sequence[Procedure], seed: int) -> Iterator[Proof]:
    made = Proof(durable, chosen, seed)
    yield made
    made.close()
