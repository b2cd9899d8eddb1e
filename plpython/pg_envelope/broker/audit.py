"""The audit log: one JSON line an event, never a key, a wrapped key or a token."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from typing import Any

from pg_envelope import errors

STANDARD_OUTPUT = "-"


class Audit:
    """Appends events to a file (mode 0600) or to standard output."""

    def __init__(self, target: str) -> None:
        """Raises NotConfigured when the file cannot be written."""
        self._target = target
        self._file = self._open()

    def write(self, event: str, **facts: Any) -> None:
        """Adds one line: `time`, `event` and the facts. Raises Internal when it cannot: no key leaves unrecorded."""
        line = json.dumps({"time": now(), "event": event, **facts})
        try:
            _write_all(self._file, line.encode() + b"\n")
        except OSError:
            raise errors.Internal("the broker cannot write its audit log") from None

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


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
