"""A publisher with wal_level = logical, and subscriptions of the other cluster to it; both are real servers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from stack.postgres import Cluster
from stack.processes import folder
from stack.stack import Stack
from tests.fix_stack import ROLES, SETTINGS

from .fix_clusters import run

SOURCE = "shop"
PATIENCE_SECONDS = 60
Connection = psycopg.Connection[Any]
Subscribe = Callable[..., Connection]


@pytest.fixture(scope="module")
def publisher(stack: Stack) -> Iterator[Cluster]:
    cluster = Cluster(
        folder(stack.home / "publisher", 0o711),
        environment=stack.cluster.environment,
        settings={**SETTINGS, "wal_level": "logical"},
    )
    cluster.start()
    try:
        with cluster.connect() as connection:
            for role in ROLES:
                connection.execute(f"CREATE ROLE {role} LOGIN")
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def source(publisher: Cluster) -> Iterator[Connection]:
    """A database of `owner` with a protected table of five rows, by its superuser."""
    with publisher.connect() as connection:
        connection.execute(f"CREATE DATABASE {SOURCE} OWNER owner")
    with publisher.connect(SOURCE, "owner") as owner:
        owner.execute("CREATE TABLE customer (id int PRIMARY KEY, email text)")
        owner.execute("INSERT INTO customer SELECT i, 'person ' || i FROM generate_series(1, 5) i")
        owner.execute("GRANT SELECT ON customer TO alice")
    with publisher.connect(SOURCE) as superuser:
        superuser.execute("SET client_min_messages = warning")
        superuser.execute("CREATE EXTENSION pg_envelope CASCADE")
        superuser.execute("""CALL envelope.protect('customer', '["email"]')""")
        yield superuser
    with publisher.connect() as connection:
        connection.execute(f"DROP DATABASE {SOURCE} WITH (FORCE)")


@pytest.fixture
def subscribe(publisher: Cluster, other_cluster: Cluster, tmp_path: Path) -> Iterator[Subscribe]:
    """Copies the schema as docs/logical-replication.md says, then subscribes; the subscriber's superuser."""
    made: list[tuple[str, Connection]] = []

    def make(publication: str) -> Connection:
        name = f"subscriber_{publication}"
        with other_cluster.connect() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 OWNER owner")
        dump = tmp_path / "schema.dump"
        run(publisher, SOURCE, "pg_dump", "--schema-only", "--no-publications", "--format=custom", "--file", dump)
        run(other_cluster, name, "pg_restore", "--exit-on-error", "--dbname", name, dump)
        subscriber = other_cluster.connect(name)
        subscriber.execute("SET client_min_messages = warning")
        subscriber.execute(
            f"CREATE SUBSCRIPTION {name} CONNECTION '{publisher.conninfo(SOURCE)}' PUBLICATION {publication}"
        )
        made.append((name, subscriber))
        return subscriber

    yield make
    for name, subscriber in made:
        subscriber.execute(f"DROP SUBSCRIPTION {name}")
        subscriber.close()
        with other_cluster.connect() as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def until(connection: Connection, query: str, wanted: list[tuple[Any, ...]]) -> None:
    """Waits for a query's rows, which replication brings when it does."""
    found: object = None
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        try:
            found = connection.execute(query).fetchall()
        except psycopg.Error as error:
            found = error
        if found == wanted:
            return
        time.sleep(0.1)
    raise AssertionError(f"{query}: {found!r}")
