"""Runs servers as processes: it gives them users, ports and folders, and starts, watches and ends them."""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

LOG_TAIL_LINES = 20
# The range is below the kernel's for outgoing connections. A client that retries could otherwise take the port of a
# server that is down for a moment, or even connect to itself.
PORTS = range(20_000, 32_000)
BLOCK = 100


class StackError(Exception):
    """A server does not start, stop or answer; the text says what to look at."""


@dataclass(frozen=True)
class Account:
    """The operating-system user a server runs as."""

    name: str
    uid: int
    gid: int

    @classmethod
    def of(cls, name: str) -> Account:
        """`name` when root, else the present user, who cannot start processes as anybody else."""
        if os.geteuid() != 0:
            return cls.ours()
        entry = pwd.getpwnam(name)
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid)

    @classmethod
    def ours(cls) -> Account:
        return cls(pwd.getpwuid(os.geteuid()).pw_name, os.geteuid(), os.getegid())

    def own(self, path: Path) -> None:
        """Make `path` this user's; nothing to do when not root. A link put in its place is not followed."""
        if os.geteuid() == 0:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def own_tree(self, top: Path) -> None:
        for path in (top, *top.rglob("*")):
            self.own(path)


def private_file(path: Path, text: str, owner: Account | None = None) -> None:
    """Write a file that only its owner can read, at no moment anyone else."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        if owner and os.geteuid() == 0:
            os.fchown(file.fileno(), owner.uid, owner.gid)
        file.write(text)


def folder(path: Path, mode: int, owner: Account | None = None) -> Path:
    """Make the folder if need be, with exactly this mode and owner."""
    path.mkdir(exist_ok=True)
    path.chmod(mode)
    if owner:
        owner.own(path)
    return path


def _own_ports() -> Iterator[int]:
    """Yields each port once, and none that another process of ours may give to a server that is stopped at times.

    A process holds the blocks that it takes by names that the kernel gives to one process at a time.
    """
    for first in random.SystemRandom().sample(PORTS[::BLOCK], len(PORTS[::BLOCK])):
        held = socket.socket(socket.AF_UNIX)
        try:
            held.bind(f"\0pg_envelope ports {first}")
        except OSError:
            held.close()
            continue
        atexit.register(held.close)
        yield from range(first, first + BLOCK)


_OWN_PORTS = _own_ports()


def free_port() -> int:
    """Returns a TCP port of the loopback interface that nobody listens on, another one each time."""
    for port in _OWN_PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise StackError("no free port on 127.0.0.1 between 20000 and 32000")


class Daemon:
    """One server process, in a session of its own: outlives us, and can be found again by its pid file.

    `directory` holds NAME.log and NAME.pid; both are ours, so that the server cannot redirect a signal.
    """

    def __init__(
        self, name: str, directory: Path, account: Account, stop_signal: signal.Signals = signal.SIGTERM
    ) -> None:
        self.name = name
        self.account = account
        self.log = directory / f"{name}.log"
        self.pid_file = directory / f"{name}.pid"
        self._stop_signal = stop_signal
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while the server runs."""
        try:
            pid, born = self.pid_file.read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid) if _born(int(pid)) == born else None

    @property
    def running(self) -> bool:
        return self.pid is not None

    def adopt(self, pid: int) -> None:
        """Takes on a process that another program started in the place of ours. The caller vouches for it."""
        self.pid_file.write_text(f"{pid} {_born(pid)}\n")

    def start(
        self,
        argv: Sequence[str | Path],
        ready: Callable[[], bool],
        env: dict[str, str] | None = None,
        timeout: float = 30,
    ) -> None:
        """Starts the server, and waits until `ready()`. Raises StackError with the log's end when it ends or takes too
        long.
        """
        if self.running:
            raise StackError(f"{self.name} is running already (pid {self.pid})")
        self._spawn([str(word) for word in argv], env or {})
        try:
            wait_until(lambda: not self.running or ready(), timeout, self.name)
        except StackError:
            self.kill()
            raise StackError(f"{self.name} was not ready within {timeout:.0f} s{self.log_tail()}") from None
        if not self.running:
            raise StackError(f"{self.name} ended at its start{self.log_tail()}")

    def _spawn(self, argv: list[str], env: dict[str, str]) -> None:
        clean = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/nonexistent"}
        # A server's log may hold statements, and so plaintext.
        with os.fdopen(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
            self._child = subprocess.Popen(
                argv,
                cwd="/",
                env=clean | env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=0o077,
                **_identity(self.account),
            )
        self.pid_file.write_text(f"{self._child.pid} {_born(self._child.pid)}\n")

    def stop(self, timeout: float = 30) -> None:
        """Ask it to end, and insist after `timeout` seconds. Nothing to do when it does not run."""
        if self._signal(self._stop_signal):
            with contextlib.suppress(StackError):
                wait_until(lambda: not self.running, timeout, self.name)
        self.kill()

    def kill(self) -> None:
        """SIGKILL it and the children it has, as a crash would."""
        pid = self.pid
        family = [pid, *_children(pid)] if pid else []
        for member in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        wait_until(lambda: not any(_born(member) for member in family), 10, self.name)
        self._reap()
        self.pid_file.unlink(missing_ok=True)

    def reload(self) -> None:
        """SIGHUP: read the configuration again."""
        self._signal(signal.SIGHUP)

    def log_tail(self) -> str:
        """The last lines of its log, for a message."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        lines = text.splitlines()[-LOG_TAIL_LINES:]
        return "".join(f"\n  {line}" for line in [f"; the end of {self.log}:", *lines])

    def _signal(self, number: signal.Signals) -> bool:
        pid = self.pid
        if pid:
            os.kill(pid, number)
        return pid is not None

    def _reap(self) -> None:
        if self._child:
            self._child.wait()
            self._child = None


def run_as(account: Account, argv: Sequence[str | Path], env: dict[str, str] | None = None) -> str:
    """Runs a command to its end as `account`. Returns its output. Raises StackError with the command's words when it
    fails.
    """
    done = subprocess.run(
        [str(word) for word in argv],
        cwd="/",
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"} | (env or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        **_identity(account),
    )
    if done.returncode:
        raise StackError(f"{argv[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def wait_until(true: Callable[[], bool], timeout: float, what: str) -> None:
    """Return when `true()`. Raises StackError after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not true():
        if time.monotonic() > end:
            raise StackError(f"{what}: not done within {timeout:.0f} s")
        time.sleep(0.02)


def link_or_copy(source: Path, target: Path) -> None:
    """Put a file where other users can reach it: the source may lie below a home folder of mode 0700."""
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copy(source, target)
    target.chmod(0o755)


class Identity(TypedDict):
    """The arguments of Popen that say who the process is."""

    user: int | None
    group: int | None
    extra_groups: list[int] | None


def _identity(account: Account) -> Identity:
    """Leaves root behind: user, group, and no other groups."""
    if os.geteuid() != 0:
        return {"user": None, "group": None, "extra_groups": None}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def _stat(pid: int) -> list[str]:
    """Returns /proc/PID/stat from the state on; empty when there is no such process, or only a zombie of it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [] if fields[0] in "ZX" else fields


def _born(pid: int) -> str:
    """Returns when a process was started, in the kernel's ticks, or an empty text when it does not run.

    Start and pid together identify a process.
    """
    fields = _stat(pid)
    return fields[19] if fields else ""


def _children(parent: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _stat(int(entry.name))[1:2] == [str(parent)]:
            yield int(entry.name)
