"""A cluster that nobody else can reach, in which a backup is restored to see whether it works."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from pg_envelope_client.backups.programs import Programs
from pg_envelope_client.problems import Problem, usage

READY_SECONDS = 600.0
LOOK_SECONDS = 0.2
PR_SET_PDEATHSIG = 1
MOST_SAID = 4000
# Nothing of the copied settings may act here: no archive_command, no library of an application, no listening port.
SETTINGS = """\
listen_addresses = ''
unix_socket_permissions = 0700
fsync = off
wal_level = minimal
max_wal_senders = 0
archive_mode = off
hot_standby = off
autovacuum = off
max_prepared_transactions = 100
"""


class ScratchCluster:
    """A running cluster in `folder`, which only its user can enter. `superuser` may do everything there."""

    def __init__(self, folder: Path, programs: Programs, superuser: str, environment: dict[str, str]) -> None:
        self._folder, self._programs, self.superuser = folder, programs, superuser
        self.environment = {**environment, "PGHOST": str(folder), "PGPORT": "5432", "PGUSER": superuser}
        self.data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None

    def dsn(self, database: str) -> str:
        return psycopg.conninfo.make_conninfo(host=str(self._folder), port=5432, user=self.superuser, dbname=database)

    def made(self) -> None:
        """Makes an empty cluster."""
        words = ["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", f"--username={self.superuser}"]
        self._programs.run("initdb", f"--pgdata={self.data}", *words)

    def start(self) -> None:
        """Starts the server, which recovers first. Raises Problem, with the end of its log, when it cannot."""
        self._configure()
        log = self._folder / "log"
        with log.open("wb") as said:
            self._process = subprocess.Popen(  # noqa: S603
                [self._programs.path("postgres"), "-D", str(self.data), "-k", str(self._folder), "-p", "5432"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                preexec_fn=_ends_with_us,
            )
        self._wait(log)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()

    def _configure(self) -> None:
        (self.data / "postgresql.conf").write_text(SETTINGS)
        (self.data / "postgresql.auto.conf").write_text("")
        (self.data / "pg_hba.conf").write_text("local all all trust\n")
        (self.data / "pg_ident.conf").write_text("")
        for name in ("recovery.signal", "standby.signal"):
            (self.data / name).unlink(missing_ok=True)

    def _wait(self, log: Path) -> None:
        until = time.monotonic() + READY_SECONDS
        while not self._answers():
            if self._process is None or self._process.poll() is not None or time.monotonic() > until:
                said = log.read_bytes()[-MOST_SAID:].decode(errors="replace").strip()
                raise Problem("the scratch cluster does not start", detail=said)
            time.sleep(LOOK_SECONDS)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.dsn("template1")).close()
        except psycopg.OperationalError:
            return False
        return True


def refuse_root() -> None:
    """Raises Problem for root, whom PostgreSQL's server refuses."""
    if os.geteuid() == 0:
        raise usage("PostgreSQL does not run as root", hint="runuser -u postgres -- pg-envelope backups verify ...")


@contextmanager
def scratch(
    parent: Path | None, programs: Programs, superuser: str, environment: dict[str, str]
) -> Iterator[ScratchCluster]:
    """Yields a cluster that has no data yet. It is stopped and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="pg-envelope-verify-", dir=parent))
    cluster = ScratchCluster(folder, programs, superuser, environment)
    try:
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _ends_with_us() -> None:
    """The server of a command that was killed must not live on."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)
