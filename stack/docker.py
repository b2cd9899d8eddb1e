"""Makes the same stack in containers: OpenBao, broker and PostgreSQL, from the images of Dockerfile.postgres."""

from __future__ import annotations

import io
import json
import secrets
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from stack.broker import Tables, toml
from stack.openbao import CONFIG, OpenBao
from stack.postgres import SUPERUSER
from stack.processes import Account, StackError, folder, free_port, private_file, wait_until
from stack.stack import DATABASE, exports, make_database, next_steps
from stack.tls import make_certificates

SERVER_IMAGE, OPENBAO_IMAGE = "pg-envelope-postgres", "pg-envelope-openbao"
OPENBAO_HOME = "/var/lib/openbao"
CONTAINERS = ("postgres", "broker", "openbao")
VOLUMES = ("data", "etc", "run", "state", "openbao")


class DockerStack:
    """One stack in containers, remembered in `directory`: the names of all its parts begin with `prefix`.

    OpenBao's container owns the network that all three share, so that each finds the others on 127.0.0.1 only. Secrets
    go in by standard input and lie in volumes; what the host needs is in `directory` (0700).
    """

    def __init__(self, directory: Path, *, broker_settings: Tables | None = None) -> None:
        self.directory = Path(directory).absolute()
        self.broker_settings = broker_settings or {}
        self.state_file = self.directory / "docker.json"
        self.env_file = self.directory / "env"
        self.password_file = self.directory / "pgpass"
        state = json.loads(self.state_file.read_text()) if self.made(directory) else {}
        self.prefix: str = state.get("prefix") or f"pgenv-{secrets.token_hex(5)}"
        self.port: int = state.get("port") or free_port()
        self.openbao = OpenBao(self.directory / "openbao", port=state.get("openbao_port") or free_port())
        self._seconds = 0.0

    @staticmethod
    def made(directory: Path) -> bool:
        """Tells whether the stack of this folder is one in containers."""
        return (Path(directory) / "docker.json").exists()

    def up(self) -> None:
        """Makes the stack, or starts the parts that do not run.

        Raises StackError; then nothing of a new stack is left.
        """
        began = time.monotonic()
        if self.env_file.exists():
            self._start()
        else:
            self.down()
            self._make()
        self._seconds = time.monotonic() - began

    def down(self) -> None:
        """Remove containers, volumes and folder; nothing to do when there are none."""
        if self.state_file.exists():
            _docker("rm", "--force", "--volumes", *self._names(CONTAINERS), check=False)
            _docker("volume", "rm", "--force", *self._names(VOLUMES), check=False)
            shutil.rmtree(self.directory)

    def connect(self, database: str = DATABASE, user: str = SUPERUSER, **options: Any) -> psycopg.Connection:
        """A connection in autocommit mode; `options` go to psycopg.connect."""
        place = f"host=127.0.0.1 port={self.port} passfile={self.password_file} dbname={database} user={user}"
        return psycopg.connect(place, **{"autocommit": True} | options)

    @property
    def data(self) -> str:
        """The server's data directory, as `inside` sees it."""
        return "/var/lib/postgresql/data"

    def inside(self, *command: str) -> str:
        """Runs a command where the server's files are, as its user. Returns its output. Raises StackError when it
        fails.
        """
        place = ("--user=postgres", f"--env=PGDATABASE={DATABASE}")
        return _docker("exec", *place, self._name("postgres"), *command).stdout.decode()

    def environ(self) -> dict[str, str]:
        """Returns the environment that a shell needs to use the stack from outside the containers."""
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": SUPERUSER,
            "PGDATABASE": DATABASE,
            "PGPASSFILE": str(self.password_file),
            **self.openbao.environ(),
        }

    def summary(self) -> str:
        """Returns a small table for people: what runs where, and what to do next."""
        rows = [("PostgreSQL", f"127.0.0.1:{self.port}"), ("OpenBao", self.openbao.address), ("broker", "")]
        names = ("postgres", "openbao", "broker")
        lines = [
            f"  {title:<11} {place:<26} docker logs {self._name(name)}"
            for (title, place), name in zip(rows, names, strict=True)
        ]
        head = f"The stack is up in containers ({self._seconds:.1f} s)."
        return "\n".join([head, *lines, *next_steps(self.directory)])

    def _make(self) -> None:
        folder(self.directory, 0o700)
        state = {"prefix": self.prefix, "port": self.port, "openbao_port": self.openbao.port}
        private_file(self.state_file, json.dumps(state))
        try:
            self._make_openbao()
            self._make_broker()
            self._make_postgres()
            private_file(self.env_file, exports(self.environ()))
        except BaseException:
            self.down()
            raise

    def _start(self) -> None:
        """Starts the parts that are made. OpenBao comes first, because the network is its container's."""
        _docker("start", self._name("openbao"))
        self._unseal()
        _docker("start", self._name("broker"), self._name("postgres"))
        self._wait("postgres", self._answers)

    def _unseal(self) -> None:
        self._wait("openbao", self.openbao.answers)
        if self.openbao.sealed:
            self.openbao.unseal()

    def _make_openbao(self) -> None:
        files = folder(self.openbao.directory, 0o700)
        make_certificates(files, Account.ours())
        ports = {"port": 8200, "cluster_port": 8201}
        config = CONFIG.format(directory=OPENBAO_HOME, data=f"{OPENBAO_HOME}/data", address="0.0.0.0", **ports)
        private_file(files / "config.hcl", config)
        volume = ("--volume", f"{self._name('openbao')}:{OPENBAO_HOME}")
        fill = ("--entrypoint", "/bin/sh", OPENBAO_IMAGE, "-c", f"cd {OPENBAO_HOME} && tar -x && mkdir -m 700 data")
        _docker("run", "--rm", "--interactive", *volume, *fill, stdin=_tar(files))
        (files / "server-key.pem").unlink()
        published = (f"127.0.0.1:{self.openbao.port}:8200", f"127.0.0.1:{self.port}:5432")
        self._run("openbao", OPENBAO_IMAGE, *volume, *(f"--publish={one}" for one in published))
        self._wait("openbao", self.openbao.answers)
        self.openbao.initialise()
        self.openbao.unseal()

    def _make_broker(self) -> None:
        options = (
            *self._network(),
            *self._mounts(etc="/etc/pg_envelope", run="/run/pg_envelope", state="/var/lib/pg_envelope"),
        )
        given = self.openbao.token_file.read_text() + "\n" + self.openbao.ca_file.read_text()
        init = (SERVER_IMAGE, "init", "--address", "https://127.0.0.1:8200")
        _docker("run", "--rm", "--interactive", "--user=pg-envelope", *options, *init, stdin=given.encode())
        more = ("--entrypoint", "/bin/sh", SERVER_IMAGE, "-c", "cat >>/etc/pg_envelope/broker.toml")
        _docker(
            "run",
            "--rm",
            "--interactive",
            "--user=pg-envelope",
            *options,
            *more,
            stdin=toml(self.broker_settings).encode(),
        )
        self._run("broker", SERVER_IMAGE, "--user=pg-envelope", "--ulimit=core=0", *options, command=["broker"])
        socket = ("exec", self._name("broker"), "test", "-S", "/run/pg_envelope/broker.sock")
        self._wait("broker", lambda: _docker(*socket, check=False).returncode == 0)

    def _make_postgres(self) -> None:
        password = secrets.token_urlsafe(24)
        private_file(self.password_file, f"127.0.0.1:{self.port}:*:{SUPERUSER}:{password}\n")
        volumes = self._mounts(data="/var/lib/postgresql/data", run="/run/pg_envelope")
        _docker("run", "--rm", "--interactive", *volumes, SERVER_IMAGE, "initdb", stdin=password.encode())
        self._run("postgres", SERVER_IMAGE, *self._network(), *volumes, command=["postgres"])
        self._wait("postgres", self._answers)
        make_database(self.connect)

    def _answers(self) -> bool:
        try:
            self.connect("postgres", connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, name: str, image: str, *options: str, command: list[str] | None = None) -> None:
        _docker("run", "--detach", "--name", self._name(name), *options, image, *(command or []))

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        try:
            wait_until(ready, 30, name)
        except StackError as error:
            logs = _docker("logs", "--tail", "20", self._name(name), check=False)
            raise StackError(f"{error}\n{logs.stdout.decode()}{logs.stderr.decode()}") from None

    def _network(self) -> list[str]:
        return ["--network", f"container:{self._name('openbao')}"]

    def _mounts(self, **places: str) -> list[str]:
        return [word for name, place in places.items() for word in ("--volume", f"{self._name(name)}:{place}")]

    def _name(self, part: str) -> str:
        return f"{self.prefix}-{part}"

    def _names(self, parts: tuple[str, ...]) -> list[str]:
        return [self._name(part) for part in parts]


def _docker(*words: str, stdin: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(["docker", *words], input=stdin, capture_output=True, check=False)
    if check and done.returncode:
        raise StackError(f"docker {words[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done


def _tar(files: Path) -> bytes:
    """Returns the folder's files as a tar archive that names no owner."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in files.iterdir():
            archive.add(path, path.name)
    return buffer.getvalue()
