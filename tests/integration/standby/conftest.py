"""A streaming standby whose replay a test can hold up, with the primary's broker or with one of its own."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from stack.broker import Broker
from stack.postgres import Cluster
from stack.processes import wait_until
from stack.stack import Stack
from tests.fix_stack import SETTINGS, Database
from tests.fix_standby import standby_of
from tests.integration.erasure.conftest import policy
from tests.integration.operations.fix_kms_life import people

__all__ = ["people", "policy"]

# How long a standby may take to replay, in seconds.
WAIT = 60
PAUSED = "SELECT pg_get_wal_replay_pause_state() = 'paused'"
MakeStandby = Callable[[Broker], Cluster]
Connect = Callable[..., "psycopg.Connection[Any]"]


def hold_up(session: psycopg.Connection[Any]) -> None:
    """The session's standby replays nothing more until `go_on`."""
    session.execute("SELECT pg_wal_replay_pause()")
    wait_until(lambda: session.execute(PAUSED).fetchone() == (True,), WAIT, "the pause")


def go_on(session: psycopg.Connection[Any]) -> None:
    session.execute("SELECT pg_wal_replay_resume()")


@pytest.fixture
def make_standby(stack: Stack) -> Iterator[MakeStandby]:
    """Makes standbys of the stack's cluster; they go with the test."""
    made: list[Cluster] = []

    def make(broker: Broker) -> Cluster:
        environment = {**stack.cluster.environment, "PG_ENVELOPE_SOCKET": str(broker.socket)}
        cluster = standby_of(stack.cluster, stack.home / f"standby-{len(made)}", environment, SETTINGS)
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
    """A standby that has the table person."""
    own = request.param == "two brokers"
    return make_standby(request.getfixturevalue("other_broker") if own else stack.broker)
