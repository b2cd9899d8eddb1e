"""Writes the audit log: one JSON line an event, never a key, a wrapped key or a token."""

from __future__ import annotations

import errno
import json
import os
import select
import stat
import sys
from datetime import UTC, datetime
from typing import Any

from pg_envelope import errors

STANDARD_OUTPUT = "-"
LEAST_FREE_BYTES = 16 << 20
# A full pipe, or the journal, may hold up the broker for so long. Once it is known to be full, it may not at all.
WAIT_MS = 1000
REMOVED = "its file was removed"
HINT = "The broker gives out no key without a line in it. See audit_log in the broker's configuration, and its disk."


class Audit:
    """Appends events to a file (mode 0600) or to standard output."""

    def __init__(self, target: str) -> None:
        """Raises NotConfigured when the file cannot be written."""
        self._target = target
        self._file = self._open()
        self._cut = False
        self.trouble: str | None = None

    def write(self, event: str, **facts: Any) -> None:
        """Adds one line: `time`, `event` and the facts. Raises Internal when it cannot: no key leaves unrecorded."""
        self._append(_line(event, facts))

    def problem(self) -> tuple[str, str, str] | None:
        """Returns a problem for the operator: (failed or degraded; detail; hint). None when all is well."""
        if self.trouble is not None:
            return "failed", f"cannot be written: {self.trouble}", HINT
        if (free := self._free_bytes()) is not None and free < LEAST_FREE_BYTES:
            return "degraded", f"only {free >> 20} MB are free on its disk", HINT
        return None

    def recover(self) -> None:
        """Writes of the gap, if there is one. Raises Internal as long as there is trouble."""
        if self.trouble is not None:
            self._append(b"")

    def _append(self, lines: bytes) -> None:
        wait = WAIT_MS if self.trouble is None else 0
        try:
            self._leave_removed()
            if self.trouble is not None:
                # The note of the gap comes before what follows it. The rest of a line that a full disk cut off must not
                # swallow the next line.
                lines = b"\n" * self._cut + _line("audit_recovered", {"trouble": self.trouble}) + lines
            self._write_all(lines, wait)
        except OSError as error:
            self.trouble = error.strerror or type(error).__name__
            raise errors.Internal("the broker cannot write its audit log", self.trouble, HINT) from None
        self.trouble = None

    def _write_all(self, lines: bytes, wait_ms: int) -> None:
        """Does not let a pipe that nobody empties hold up the broker. Raises OSError."""
        room = select.poll()
        room.register(self._file, select.POLLOUT)
        while lines:
            if not room.poll(wait_ms):
                raise OSError(errno.EAGAIN, "nobody reads what it writes")
            written = os.write(self._file, lines[: select.PIPE_BUF])
            self._cut = not lines[:written].endswith(b"\n")
            lines = lines[written:]

    def _leave_removed(self) -> None:
        """Goes on in a new file when the old one was removed, because nobody can read a removed file.

        Raises OSError.
        """
        found = os.fstat(self._file)
        if self._target != STANDARD_OUTPUT and stat.S_ISREG(found.st_mode) and found.st_nlink == 0:
            self.trouble, self._cut = REMOVED, False
            self._replace(_opened(self._target))

    def _free_bytes(self) -> int | None:
        """Returns the free bytes of the disk, or None where the log is no file on a disk."""
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            return None
        found = os.fstatvfs(self._file)
        return found.f_bavail * found.f_frsize

    def reopen(self) -> None:
        """Goes on in a new file after a rotation moved the old one away. Keeps the old one when that fails."""
        if self._target == STANDARD_OUTPUT:
            return
        self._replace(self._open())

    def _replace(self, file: int) -> None:
        old, self._file = self._file, file
        os.close(old)

    def close(self) -> None:
        if self._target != STANDARD_OUTPUT:
            os.close(self._file)

    def _open(self) -> int:
        if self._target == STANDARD_OUTPUT:
            return sys.stdout.fileno()
        try:
            return _opened(self._target)
        except OSError as error:
            raise errors.NotConfigured("the audit log cannot be written", detail=error.strerror) from None


def now() -> str:
    """Returns the time of an event, in UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _line(event: str, facts: dict[str, Any]) -> bytes:
    return json.dumps({"time": now(), "event": event, **facts}).encode() + b"\n"


def _opened(path: str) -> int:
    """Opens a pipe, too. One without a reader is an error, where opening would otherwise wait for a reader."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    return os.open(path, flags, 0o600)
