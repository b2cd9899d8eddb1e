"""A second cluster beside the stack's, with the same broker and KMS, and PostgreSQL's programs run as by a DBA."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stack.postgres import Cluster
from stack.processes import folder
from stack.stack import Stack
from tests.fix_stack import ROLES, SETTINGS


def run(cluster: Cluster, database: str, program: str, *words: str | Path) -> str:
    """Its output. Fails the test unless the program ends with 0 and says nothing on stderr."""
    environment = {"PATH": os.environ["PATH"], **cluster.environ(database)}
    done = subprocess.run(
        [cluster.bindir / program, *words], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def other_cluster(stack: Stack) -> Iterator[Cluster]:
    """Another server with the same roles; it knows the same broker."""
    home = folder(stack.home / "other", 0o711)
    cluster = Cluster(home, environment=stack.cluster.environment, settings=SETTINGS)
    cluster.start()
    try:
        with cluster.connect() as connection:
            for role in ROLES:
                connection.execute(f"CREATE ROLE {role} LOGIN")
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def empty_database(other_cluster: Cluster) -> Iterator[Callable[[str], str]]:
    """Makes empty databases in the other cluster; they go with the test."""
    made: list[str] = []

    def make(name: str) -> str:
        with other_cluster.connect() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        made.append(name)
        return name

    yield make
    with other_cluster.connect() as connection:
        for name in made:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
