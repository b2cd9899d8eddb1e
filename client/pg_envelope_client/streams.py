"""The standard streams as a bad night leaves them: closed, full, without a reader, or unable to write a letter."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, TextIO

from pg_envelope_client.problems import FAILED, NO_READER, Problem

STDIN, STDOUT, STDERR = 0, 1, 2


class Lasting(io.FileIO):
    """A stream that remembers that it failed, and goes on: lost output must not end half of what a command does."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.failure = self.failure or error
            return memoryview(data).nbytes


def prepare() -> None:
    """Before anything is opened: what the caller closed leads nowhere, so that no file or socket takes its number."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if stream is None:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free
    sys.stdin = sys.stdin or open(STDIN, closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = _lasting(STDOUT, sys.stdout), _lasting(STDERR, sys.stderr)


def _lasting(number: int, stream: TextIO | None) -> io.TextIOWrapper:
    raw = Lasting(number, "w", closefd=False)
    by_line = number == STDERR or raw.isatty()
    return io.TextIOWrapper(
        io.BufferedWriter(raw), getattr(stream, "encoding", None), "backslashreplace", line_buffering=by_line
    )


def delivered() -> None:
    """Raises Problem when something that was printed as the result is lost."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, Lasting) and raw.failure is not None:
        code = NO_READER if raw.failure.errno == errno.EPIPE else FAILED
        raise Problem("the result could not be written", detail=raw.failure.strerror, exit_code=code)
