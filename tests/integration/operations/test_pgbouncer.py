"""Behind pgbouncer in transaction mode: one server connection, many clients; each gets what its own role may have."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from stack.processes import Daemon, folder, free_port, private_file
from tests.fix_stack import Database

PROGRAM = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
CLIENTS, ROUNDS, ROWS = 200, 3, 50
CONFIG = """\
[databases]
{name} = host={host} port={server_port} dbname={name} user=owner
[pgbouncer]
listen_addr =
listen_port = {port}
unix_socket_dir = {directory}
unix_socket_mode = 0777
auth_type = any
pool_mode = transaction
default_pool_size = {pool}
max_client_conn = 250
logfile =
"""

pytestmark = pytest.mark.skipif(not os.path.exists(PROGRAM), reason="pgbouncer is not installed")


class Pooler:
    """One pgbouncer before a database; everybody comes in as `owner`, over `pool` server connections."""

    def __init__(self, db: Database, directory: Path, pool: int) -> None:
        cluster = db.stack.cluster
        self.name, self.port, self.directory = db.name, free_port(), folder(directory, 0o711, cluster.account)
        self._daemon = Daemon("pgbouncer", directory, cluster.account)
        names = {"host": cluster.socket_directory, "server_port": cluster.port, "directory": directory}
        text = CONFIG.format(name=db.name, port=self.port, pool=pool, **names)
        self._config = directory / "pgbouncer.ini"
        private_file(self._config, text, cluster.account)

    def start(self) -> None:
        self._daemon.start([PROGRAM, "-q", self._config], self._listens)

    def _listens(self) -> bool:
        """The socket is there a moment before somebody listens."""
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.directory / f".s.PGSQL.{self.port}")) == 0

    def stop(self) -> None:
        self._daemon.stop()

    def connect(self) -> psycopg.Connection[tuple[str]]:
        """Without prepared statements, as this version of pgbouncer wants it."""
        return psycopg.connect(
            f"host={self.directory} port={self.port} dbname={self.name} user=owner", prepare_threshold=None
        )


@pytest.fixture
def pooler(db: Database) -> Iterator[Pooler]:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, email text)")
    db.sql("INSERT INTO t SELECT i, i || '@example.org' FROM generate_series(1, %s) i", ROWS)
    db.sql("""CALL envelope.protect('t', '["email"]')""")
    db.sql("GRANT SELECT, UPDATE ON t TO alice; GRANT alice, bob TO owner")
    made = Pooler(db, db.stack.home / f"pool-{db.name}", pool=1)
    made.start()
    yield made
    made.stop()
    db.sql("REVOKE alice, bob FROM owner")
    shutil.rmtree(made.directory)


def read(connection: psycopg.Connection[tuple[str]], role: str, number: int) -> str:
    """A value, or the SQLSTATE of the refusal, in a transaction as `role`."""
    try:
        with connection.transaction():
            connection.execute(f"SET LOCAL ROLE {role}")
            row = connection.execute("SELECT email FROM t WHERE id = %s", [number]).fetchone()
            assert row is not None
            return row[0]
    except psycopg.Error as error:
        return error.sqlstate or ""


def test_a_warm_connection_gives_no_right(pooler: Pooler) -> None:
    with pooler.connect() as one, pooler.connect() as other:
        pids = {one.execute("SELECT pg_backend_pid()").fetchone()}
        one.commit()
        assert read(one, "alice", 1) == "1@example.org"
        pids.add(other.execute("SELECT pg_backend_pid()").fetchone())
        other.commit()
        assert len(pids) == 1, "both must have the same server connection"
        assert read(other, "bob", 1) == "42501"
        assert read(one, "alice", 2) == "2@example.org"


def test_many_clients_each_get_their_own(pooler: Pooler) -> None:
    """All are connected before the first one asks."""
    wrong: list[str] = []

    def client(number: int, connection: psycopg.Connection[tuple[str]]) -> None:
        row = number % ROWS + 1
        role, expected = ("alice", f"{row}@example.org") if number % 2 else ("bob", "42501")
        wrong.extend(found for _ in range(ROUNDS) if (found := read(connection, role, row)) != expected)

    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(pooler.connect()) for _ in range(CLIENTS)]
        for connection in connections:
            connection.execute("SELECT 1")
            connection.commit()
        threads = [threading.Thread(target=client, args=numbered) for numbered in enumerate(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_a_revocation_reaches_pooled_connections(db: Database, pooler: Pooler) -> None:
    with pooler.connect() as connection:
        assert read(connection, "alice", 1) == "1@example.org"
        db.sql("CALL envelope.suspend('t')")
        assert read(connection, "alice", 1) == "55000"
        db.sql("CALL envelope.unsuspend('t')")
        assert read(connection, "alice", 1) == "1@example.org"
