"""The pg-envelope command without the time of its imports: a process that has imported it forks for each run.

So each run is a process of its own, with its own arguments, environment, folder and exit code.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

# What an interpreter or a library reads when it starts: runs that differ in one of these are forked by different ones.
EARLY = ("PYTHON", "LC_", "LANG", "LD_", "OPENSSL_", "SSL_", "TZ", "TERM", "NO_COLOR", "FORCE_COLOR", "TTY_", "_TYPER")
# What most commands import.
USED = ("pg_envelope_client.cli", "psycopg", "rich.console", "rich.table", "typer.rich_utils", "typer._adapters")
SECONDS = 60
LARGEST = 1 << 17
Done = subprocess.CompletedProcess[str]


def run(
    python: Path,
    words: Sequence[object],
    environment: Mapping[str, str],
    *,
    given: str = "",
    folder: Path | None = None,
    ids: tuple[int, int] | None = None,
) -> Done:
    """Runs the command that this interpreter finds. The first of the words is its name. Raises TimeoutError.

    `given` is what it reads. `ids` are those of the user and the group that it runs as, if not ours.
    """
    early = tuple(sorted((name, value) for name, value in environment.items() if name.startswith(EARLY)))
    asked = {"words": [*map(str, words)], "environment": dict(environment), "folder": str(folder or Path.cwd())}
    forks = _forks(python, early)
    try:
        return forks.run({**asked, "ids": ids}, given)
    except TimeoutError:
        # It still waits for the command, and would give the answer to the next run.
        forks.kill()
        _forks.cache_clear()
        raise


class Forks:
    """The process that forks. It ends when this one does, because its socket ends then."""

    def __init__(self, python: Path, environment: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(SECONDS)
        with theirs:
            self._process = subprocess.Popen(
                [python, "-P", __file__, str(theirs.fileno())],
                env={"PATH": os.environ["PATH"], **environment},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
        atexit.register(self._end)

    def kill(self) -> None:
        """Kills it with the command that it waits for."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._end()

    def _end(self) -> None:
        self._socket.close()
        self._process.wait(SECONDS)

    def run(self, asked: dict[str, Any], given: str) -> Done:
        with _file(given) as read, _file() as out, _file() as err:
            files = [file.fileno() for file in (read, out, err)]
            socket.send_fds(self._socket, [json.dumps(asked).encode()], files)
            code = int(self._socket.recv(LARGEST))
            return Done(asked["words"], code, _text(out.fileno()), _text(err.fileno()))


@cache
def _forks(python: Path, early: tuple[tuple[str, str], ...]) -> Forks:
    return Forks(python, dict(early))


def _file(text: str = "") -> IO[bytes]:
    made = tempfile.TemporaryFile("w+b")  # noqa: SIM115  # the caller closes it
    made.write(text.encode())
    made.seek(0)
    return made


def _text(file: int) -> str:
    os.lseek(file, 0, os.SEEK_SET)
    with open(file, encoding="utf-8", closefd=False) as opened:
        return opened.read()


def _serve(asks: socket.socket) -> None:
    """Forks for each request. Returns in the fork, as the process that was asked for."""
    while True:
        asked, files, _, _ = socket.recv_fds(asks, LARGEST, 3)
        if not asked:
            sys.exit()
        child = os.fork()
        if child == 0:
            asks.close()
            _become(files, **json.loads(asked))
            return
        for file in files:
            os.close(file)
        asks.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())


def _become(
    files: list[int], *, words: list[str], environment: dict[str, str], folder: str, ids: list[int] | None
) -> None:
    for place, file in enumerate(files):
        os.dup2(file, place)
        os.close(file)
    if ids:
        os.setgroups([])
        os.setgid(ids[1])
        os.setuid(ids[0])
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words


def main() -> None:
    from pg_envelope_client.__main__ import main as command

    for name in USED:
        importlib.import_module(name)
    # A fork that collects garbage would copy all that is imported.
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    command()


if __name__ == "__main__":
    main()
