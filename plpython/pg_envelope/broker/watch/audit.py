"""The audit log: one JSON line an event, never a key, a wrapped key or a token."""

from __future__ import annotations

import json
import os
import stat
import sys
from datetime import UTC, datetime
from typing import Any

from pg_envelope import errors

STANDARD_OUTPUT = "-"
LEAST_FREE_BYTES = 16 << 20
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
        """What an operator must know of it: (failed or degraded; detail; hint)."""
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
        if self.trouble is not None:
            # The gap comes before what follows it; what a full disk cut off must not swallow the next line.
            lines = b"\n" * self._cut + _line("audit_recovered", {"trouble": self.trouble}) + lines
        try:
            self._write_all(lines)
        except OSError as error:
            self.trouble = error.strerror or type(error).__name__
            raise errors.Internal("the broker cannot write its audit log", self.trouble, HINT) from None
        self.trouble = None

    def _write_all(self, lines: bytes) -> None:
        while lines:
            written = os.write(self._file, lines)
            self._cut = not lines[:written].endswith(b"\n")
            lines = lines[written:]

    def _free_bytes(self) -> int | None:
        """None where it is no file on a disk."""
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            return None
        found = os.fstatvfs(self._file)
        return found.f_bavail * found.f_frsize

    def reopen(self) -> None:
        """Goes on in a new file after a rotation moved the old one away; keeps the old one when that fails."""
        if self._target == STANDARD_OUTPUT:
            return
        old, self._file = self._file, self._open()
        os.close(old)

    def close(self) -> None:
        if self._target != STANDARD_OUTPUT:
            os.close(self._file)

    def _open(self) -> int:
        if self._target == STANDARD_OUTPUT:
            return sys.stdout.fileno()
        try:
            return os.open(self._target, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise errors.NotConfigured("the audit log cannot be written", detail=error.strerror) from None


def now() -> str:
    """The time of an event, in UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _line(event: str, facts: dict[str, Any]) -> bytes:
    return json.dumps({"time": now(), "event": event, **facts}).encode() + b"\n"
