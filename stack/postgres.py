"""Runs a private PostgreSQL cluster, reached through a socket folder that only its own user and root can enter."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psycopg

from stack.processes import Account, Daemon, StackError, folder, free_port, run_as

ROOT = Path(__file__).resolve().parent.parent
SUPERUSER = "postgres"

# `trust` on the socket is as strong as its folder, which has mode 0700 and the server's own user. TCP asks for a
# password.
HBA = """\
local all,replication all trust
host  all             all 127.0.0.1/32 scram-sha-256
"""

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] %u@%d ",
    # A recycled WAL file keeps content of an earlier one. A search for plaintext on disk must not find the past.
    "wal_recycle": "off",
    "wal_level": "replica",
}


def pg_config(option: str) -> Path:
    """Returns a path from the server's pg_config, such as `--bindir`.

    PG_CONFIG in the environment chooses the server.
    """
    program = _output(ROOT / "deploy/pg-config.sh")
    return Path(_output(program, option))


def _output(*command: str | Path) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise StackError("no PostgreSQL server found; run deploy/packages.sh, or set PG_CONFIG")
    return done.stdout.strip()


class Cluster:
    """One cluster in `directory`: `data/` and `socket/` below it, postgres.log beside them.

    `environment` goes to the postmaster and so to every backend. `settings` (name: value) override SETTINGS.
    """

    def __init__(
        self,
        directory: Path,
        *,
        environment: dict[str, str] | None = None,
        settings: dict[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        self.directory = directory
        self.environment = environment or {}
        self.settings = settings or {}
        self.account = Account.of("postgres")
        self.data = directory / "data"
        self.socket_directory = directory / "socket"
        self.port = port or self._known_port() or free_port()
        self._hba_file = directory / "pg_hba.conf"
        self._daemon = Daemon("postgres", directory, self.account, stop_signal=signal.SIGINT)

    @functools.cached_property
    def bindir(self) -> Path:
        """Returns the folder of the server's programs."""
        return pg_config("--bindir")

    @property
    def log(self) -> Path:
        return self._daemon.log

    @property
    def pid(self) -> int | None:
        return self._daemon.pid

    @property
    def running(self) -> bool:
        self._find()
        return self._daemon.running

    def _find(self) -> None:
        """Finds the server that `pg_ctl restart` put in the place of ours. It is ours, too."""
        if not self._daemon.running and (pid := self._postmaster()):
            self._daemon.adopt(pid)

    def _postmaster(self) -> int | None:
        """Returns the process id in postmaster.pid, or None unless that process is the server's user in our data
        directory.

        So no other process is ended.
        """
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
            process = Path(f"/proc/{pid}")
            ours = (
                process.stat().st_uid == self.account.uid
                and (process / "cwd").resolve(strict=True) == self.data.resolve()
            )
        except (OSError, ValueError):
            return None
        return pid if ours else None

    def create(self) -> None:
        """initdb, once. UTF-8, superuser `postgres`."""
        folder(self.directory, 0o711)
        folder(self.data, 0o700, self.account)
        folder(self.socket_directory, 0o700, self.account)
        options = ["--auth=trust", f"--username={SUPERUSER}", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        run_as(self.account, [self.bindir / "initdb", "--pgdata", self.data, *options])
        self._hba_file.write_text(HBA)
        (self.directory / "postgres.port").write_text(f"{self.port}\n")

    def start(self) -> None:
        """Start, and return when it answers. Makes the cluster first if there is none."""
        if not (self.data / "PG_VERSION").exists():
            self.create()
        self._daemon.start([self.bindir / "postgres", "-D", self.data, *self._options()], self.ready, self.environment)

    def stop(self) -> None:
        """Fast shutdown: open connections end, the data is clean."""
        self._find()
        self._daemon.stop()

    def restart(self) -> None:
        self.stop()
        self.start()

    def crash(self) -> None:
        """SIGKILL the postmaster and all its children: the next start has to recover from WAL."""
        self._find()
        self._daemon.kill()

    def sweep(self) -> None:
        """Give back the shared memory that a crash left behind: only the same cluster's next start does that."""
        if not self.running and (self.data / "postmaster.pid").exists():
            with contextlib.suppress(StackError):
                self.start()
                self.stop()

    def reload(self) -> None:
        self._find()
        self._daemon.reload()

    def ready(self) -> bool:
        try:
            self.connect(connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def conninfo(self, database: str = "postgres", user: str = SUPERUSER) -> str:
        """Returns libpq's connection string, by the socket and without a password."""
        return f"host={self.socket_directory} port={self.port} dbname={database} user={user}"

    def connect(self, database: str = "postgres", user: str = SUPERUSER, **options: Any) -> psycopg.Connection:
        """A connection in autocommit mode; `options` go to psycopg.connect."""
        return psycopg.connect(self.conninfo(database, user), **{"autocommit": True} | options)

    def environ(self, database: str = "postgres", user: str = SUPERUSER) -> dict[str, str]:
        """Returns PGHOST and so on, for programs that use libpq."""
        return {
            "PGHOST": str(self.socket_directory),
            "PGPORT": str(self.port),
            "PGUSER": user,
            "PGDATABASE": database,
        }

    def program(self, name: str, *arguments: str | os.PathLike[str]) -> str:
        """Runs one of PostgreSQL's programs (pg_dump, pg_basebackup ...) as the cluster's user. Returns its output."""
        return run_as(self.account, [self.bindir / name, *map(str, arguments)], self.environ())

    def _options(self) -> list[str]:
        always = {
            "port": str(self.port),
            "unix_socket_directories": str(self.socket_directory),
            "hba_file": str(self._hba_file),
        }
        return [f"--{name}={value}" for name, value in (SETTINGS | self.settings | always).items()]

    def _known_port(self) -> int | None:
        file = self.directory / "postgres.port"
        return int(file.read_text()) if file.exists() else None
