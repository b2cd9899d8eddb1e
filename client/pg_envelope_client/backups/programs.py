"""Runs PostgreSQL's own programs, with a backup on their standard input or output."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pg_envelope_client.backups.head import BASE
from pg_envelope_client.problems import Problem

MOST_SAID = 4000
NO_PROGRAM_HINT = "Say where PostgreSQL's programs are: --bindir DIR (pg_config --bindir shows it)."


class Programs:
    """The programs of one folder, or those that pg_config and PATH lead to."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder or _default()

    def path(self, name: str) -> str:
        """Raises Problem when there is no such program."""
        places = [*([str(self._folder)] if self._folder else []), os.environ.get("PATH", os.defpath)]
        found = shutil.which(name, path=os.pathsep.join(places))
        if found is None:
            raise Problem(f"the program {name} was not found", hint=NO_PROGRAM_HINT)
        return found

    @contextmanager
    def giving(self, kind: str, dsn: str) -> Iterator[tuple[IO[bytes], Callable[[], None]]]:
        """Yields what pg_dump or pg_basebackup writes, and a function that raises Problem unless it ended well."""
        base = ["pg_basebackup", "--pgdata=-", "--format=tar", "--wal-method=fetch", "--checkpoint=fast"]
        words = base if kind == BASE else ["pg_dump", "--format=custom"]
        with (
            tempfile.TemporaryFile() as said,
            subprocess.Popen(  # noqa: S603
                [self.path(words[0]), *words[1:], *([f"--dbname={dsn}"] if dsn else [])],
                stdout=subprocess.PIPE,
                stderr=said,
            ) as process,
        ):
            try:
                yield _output(process), lambda: _ended(process, words[0], said)
            finally:
                process.kill()

    def run(self, name: str, *words: str | Path, environment: dict[str, str] | None = None) -> None:
        """Raises Problem, with what the program said, when it fails."""
        done = subprocess.run(  # noqa: S603
            [self.path(name), *map(str, words)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        if done.returncode:
            raise _failed(name, done.returncode, done.stderr)

    def feed(
        self, words: Sequence[str], write: Callable[[IO[bytes]], None], environment: dict[str, str] | None = None
    ) -> None:
        """Runs a program on what `write` writes. If that raises, the program is ended before it sees the end."""
        with (
            tempfile.TemporaryFile() as said,
            subprocess.Popen(  # noqa: S603
                [self.path(words[0]), *words[1:]],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
            ) as process,
        ):
            target = process.stdin
            assert target is not None
            try:
                write(target)
                target.close()
            except BrokenPipeError:
                # The program has given up, and says why.
                with suppress(OSError):
                    target.close()
            except BaseException:
                process.kill()
                raise
            _ended(process, words[0], said)


def _default() -> Path | None:
    """Debian has a part of the programs outside PATH."""
    found = shutil.which("pg_config")
    if found is None:
        return None
    told = subprocess.run([found, "--bindir"], capture_output=True, text=True, check=False)  # noqa: S603
    return Path(told.stdout.strip()) if told.returncode == 0 else None


def _output(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout


def _ended(process: subprocess.Popen[bytes], name: str, said: IO[bytes]) -> None:
    code = process.wait()
    if code:
        said.seek(0)
        raise _failed(name, code, said.read())


def _failed(name: str, code: int, said: bytes) -> Problem:
    return Problem(
        f"{name} failed (exit code {code})", detail=said[-MOST_SAID:].decode(errors="replace").strip() or None
    )
