"""Writes the revocation epoch, which backends map: FORMAT.md section 4.1."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from pg_envelope import errors

MAGIC = b"pgenvep1"
COUNTER_BYTES = 8
SIZE = len(MAGIC) + COUNTER_BYTES


class EpochFile:
    """The counter, written in place. Its lock lets only one broker use its directory."""

    def __init__(self, path: Path) -> None:
        """Opens the file, or makes it (mode 0644). Raises NotConfigured when the file is foreign or another broker has
        locked it.
        """
        self._path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise errors.NotConfigured(f"cannot open the epoch file {path}", detail=error.strerror) from None
        try:
            self._lock()
            self.value = self._read_or_create()
        except BaseException:
            os.close(self._file)
            raise

    def bump(self) -> int:
        """Sets the next value, which every backend sees at its next call."""
        self.value += 1
        self._write(self.value)
        return self.value

    def close(self) -> None:
        """Closes the file. It does not remove the file, because backends map it."""
        os.close(self._file)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise errors.NotConfigured(f"another broker runs in {self._path.parent}") from None

    def _read_or_create(self) -> int:
        content = os.pread(self._file, SIZE + 1, 0)
        if not content:
            return self._create()
        if len(content) != SIZE or not content.startswith(MAGIC):
            raise errors.NotConfigured(f"{self._path} is not an epoch file", hint="Is it the file of another program?")
        return int.from_bytes(content[len(MAGIC) :], "big")

    def _create(self) -> int:
        # The counter starts at the clock and not at 1. A file that is made again after a loss must not repeat a value
        # that backends know.
        value = time.time_ns() // 1000
        os.fchmod(self._file, 0o644)
        os.pwrite(self._file, MAGIC + value.to_bytes(COUNTER_BYTES, "big"), 0)
        return value

    def _write(self, value: int) -> None:
        os.pwrite(self._file, value.to_bytes(COUNTER_BYTES, "big"), len(MAGIC))
