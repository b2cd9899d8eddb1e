"""Makes the whole stack: OpenBao, broker, and a PostgreSQL cluster whose database `app` has the extension."""

from __future__ import annotations

import json
import secrets
import shlex
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg

from stack.broker import Broker
from stack.openbao import OpenBao
from stack.postgres import SUPERUSER, Cluster
from stack.processes import StackError, folder, private_file, run_as

DATABASE = "app"
PROGRAMS = ("psql", "pg_dump", "pg_restore", "pg_basebackup", "createdb", "dropdb")


class Stack:
    """One stack, remembered in `directory` (state.json, env), its servers' data in `home`.

    `home` is a short path below `place` that every user can pass: a socket's path has at most 107 bytes, and
    `directory` may lie in a home folder of mode 0700. A Stack made for the `directory` of a stack that is up finds that
    one.
    """

    def __init__(
        self,
        directory: Path,
        *,
        postgres_settings: dict[str, str] | None = None,
        broker_settings: dict[str, Any] | None = None,
        place: Path = Path("/tmp"),
    ) -> None:
        self.directory = Path(directory).absolute()
        self.state_file = self.directory / "state.json"
        self.env_file = self.directory / "env"
        self.home = self._recorded_home() or place / f"pgenv-{secrets.token_hex(5)}"
        self.openbao = OpenBao(self.home / "bao")
        self.broker = Broker(self.home / "broker", self.openbao, settings=broker_settings)
        environment = {
            "PG_ENVELOPE_SOCKET": str(self.broker.socket),
            "PG_ENVELOPE_BROKER_UID": str(self.broker.account.uid),
        }
        self.cluster = Cluster(self.home / "pg", environment=environment, settings=postgres_settings)
        self._seconds = 0.0

    def up(self) -> None:
        """Makes the stack, or starts the parts that do not run.

        Raises StackError; then nothing of a new stack is left.
        """
        began = time.monotonic()
        if self.env_file.exists() and self.home.exists():
            self._start()
        else:
            self.down()
            self._make()
        self._seconds = time.monotonic() - began

    def down(self) -> None:
        """Ends and removes everything, even what a crash left half made. Does nothing when nothing is there."""
        self.cluster.sweep()
        for server in (self.broker, self.cluster, self.openbao):
            server.stop()
        shutil.rmtree(self.home, ignore_errors=True)
        for file in (self.env_file, self.state_file):
            file.unlink(missing_ok=True)
        if self.directory.is_dir() and not any(self.directory.iterdir()):
            self.directory.rmdir()

    def connect(self, database: str = DATABASE, user: str = SUPERUSER, **options: Any) -> psycopg.Connection:
        """A connection in autocommit mode; `options` go to psycopg.connect."""
        return self.cluster.connect(database, user, **options)

    @property
    def data(self) -> str:
        """The server's data directory, as `inside` sees it."""
        return str(self.cluster.data)

    def inside(self, *command: str) -> str:
        """Runs a command where the server's files are, as its user. Returns its output. Raises StackError when it
        fails.
        """
        path = f"{self.cluster.bindir}:/usr/bin:/bin"
        return run_as(self.cluster.account, command, {**self.cluster.environ(DATABASE), "PATH": path})

    def environ(self) -> dict[str, str]:
        """Returns the environment that a shell needs to use the stack. PATH is what to put before the present one."""
        return {
            **self.cluster.environ(DATABASE, SUPERUSER),
            **self.openbao.environ(),
            "PG_ENVELOPE_SOCKET": str(self.broker.socket),
            "PG_ENVELOPE_EPOCH": str(self.broker.epoch_file),
            "PG_ENVELOPE_CONFIG": str(self.broker.config_file),
            "PATH": str(self.home / "bin"),
        }

    def summary(self) -> str:
        """Returns a small table for people: what runs where, and what to do next."""
        rows = [
            ("PostgreSQL", f"{self.cluster.socket_directory}, port {self.cluster.port}", self.cluster.log),
            ("OpenBao", self.openbao.address, self.openbao.log),
            ("broker", str(self.broker.socket), self.broker.log),
        ]
        lines = [f"  {name:<11} {place:<44} log {log}" for name, place, log in rows]
        return "\n".join([f"The stack is up ({self._seconds:.1f} s).", *lines, *next_steps(self.directory)])

    def _make(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        private_file(self.state_file, json.dumps({"home": str(self.home)}))
        try:
            self.home.mkdir()
            self.home.chmod(0o711)
            self._start()
            make_database(self.connect)
            self._link_programs()
            private_file(self.env_file, exports(self.environ()))
        except BaseException:
            self.down()
            raise

    def _start(self) -> None:
        for server in (self.openbao, self.broker, self.cluster):
            if not server.running:
                server.start()

    def _link_programs(self) -> None:
        """Makes a folder for PATH. It has only the command of the extension's own venv, not its `python3`."""
        programs = folder(self.home / "bin", 0o755)
        for name in PROGRAMS:
            (programs / name).symlink_to(self.cluster.bindir / name)
        (programs / "pg-envelope").symlink_to(self.broker.venv / "bin/pg-envelope")
        (programs / "bao").symlink_to(self.openbao.binary)

    def _recorded_home(self) -> Path | None:
        try:
            return Path(json.loads(self.state_file.read_text())["home"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError) as error:
            raise StackError(f"{self.state_file} is damaged; remove it") from error


def make_database(connect: Callable[[str], psycopg.Connection]) -> None:
    """Makes the database `app`, with the extension in it. Raises StackError with the server's words."""
    statements = (("postgres", f"CREATE DATABASE {DATABASE}"), (DATABASE, "CREATE EXTENSION pg_envelope CASCADE"))
    for database, statement in statements:
        try:
            with connect(database) as connection:
                connection.execute(statement)
        except psycopg.Error as error:
            raise StackError(f"{statement}: {error}") from None


def exports(variables: Mapping[str, str]) -> str:
    """Returns lines for a shell to source."""
    lines = (f"export {name}={shlex.quote(value)}" for name, value in variables.items() if name != "PATH")
    path = f'export PATH={shlex.quote(variables["PATH"])}:"$PATH"' if "PATH" in variables else ""
    return "\n".join([*lines, path, ""])


def next_steps(directory: Path) -> list[str]:
    """Returns the lines that people type to use the stack of this folder, and to end it."""
    place = directory.relative_to(Path.cwd()) if directory.is_relative_to(Path.cwd()) else directory
    variable = "" if str(place) == ".stack" else f" STACK={shlex.quote(str(place))}"
    return [f"Next:  . {shlex.quote(str(place / 'env'))} && psql", f"End:   make down{variable}"]
