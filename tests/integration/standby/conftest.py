"""A streaming standby that lags, with the primary's broker or with one of its own."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from stack.broker import Broker
from stack.postgres import Cluster
from stack.stack import Stack
from tests.fix_stack import SETTINGS, Database
from tests.fix_standby import standby_of
from tests.integration.erasure.conftest import policy
from tests.integration.operations.fix_kms_life import people

__all__ = ["people", "policy"]

# Long enough for a test to look at the standby before it has replayed, whatever else the machine does.
LAG = "8s"
MakeStandby = Callable[..., Cluster]
Connect = Callable[..., "psycopg.Connection[Any]"]


@pytest.fixture
def make_standby(stack: Stack) -> Iterator[MakeStandby]:
    """Makes standbys of the stack's cluster; they go with the test."""
    made: list[Cluster] = []

    def make(broker: Broker, lag: str = LAG) -> Cluster:
        environment = {**stack.cluster.environment, "PG_ENVELOPE_SOCKET": str(broker.socket)}
        settings = {**SETTINGS, "recovery_min_apply_delay": lag}
        cluster = standby_of(stack.cluster, stack.home / f"standby-{len(made)}", environment, settings)
        made.append(cluster)
        return cluster

    yield make
    for cluster in made:
        cluster.stop()
        shutil.rmtree(cluster.directory)


@pytest.fixture
def connect(people: Database, make_standby: MakeStandby) -> Iterator[Connect]:
    """Connects to the test's database in a standby; the sessions go with the test."""
    with contextlib.ExitStack() as sessions:
        yield lambda standby, **options: sessions.enter_context(standby.connect(people.name, **options))


@pytest.fixture
def other_broker(stack: Stack) -> Iterator[Broker]:
    """A second broker at the same KMS, as on the standby's machine: with a cache, an epoch and a ledger of its own."""
    broker = Broker(stack.home / "other-broker", stack.openbao)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(params=["one broker", "two brokers"])
def standby(request: pytest.FixtureRequest, stack: Stack, people: Database, make_standby: MakeStandby) -> Cluster:
    """A standby that lags and has the table person."""
    own = request.param == "two brokers"
    return make_standby(request.getfixturevalue("other_broker") if own else stack.broker)
