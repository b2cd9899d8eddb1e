"""Reads the revocation epoch as a backend sees it: a few mapped bytes of the broker's file, FORMAT.md section 4.1."""

from __future__ import annotations

import mmap
import os

from pg_envelope import errors

MAGIC = b"pgenvep1"
FILE_BYTES = 16


class Epoch:
    """Maps the file at the first call. `current()` then costs one slice of 8 bytes, and `mapped` costs not even
    that.

    A file whose owner is not among `owners` is refused, because a user who can cut a mapped file short can crash
    the server.
    """

    def __init__(self, path: str, owners: frozenset[int]) -> None:
        self._path = path
        self._owners = owners
        self._map: mmap.mmap | None = None
        # The counter's bytes as they are at any moment; empty until the file is mapped. For backend/hot.py.
        self.mapped = memoryview(b"")
        self._file: tuple[int, int] | None = None

    def current(self) -> bytes:
        """The counter's bytes now. Raises Unavailable or NotConfigured when the file cannot be mapped."""
        if self._map is None:
            return self.latest()
        return self._map[8:16]

    def latest(self) -> bytes:
        """Returns the same as `current`, after a check that the path still leads to the mapped file. The check
        takes 2 µs more.
        """
        try:
            file = _identity(os.stat(self._path))
            if self._map is None or self._file != file:
                self._map = self._open()
                self.mapped = memoryview(self._map)[8:16]
        except (OSError, ValueError):
            self._map, self.mapped = None, memoryview(b"")
            raise errors.Unavailable(
                "the key broker is not running", detail="its epoch file cannot be read", hint=START_HINT
            ) from None
        return self._map[8:16]

    def _open(self) -> mmap.mmap:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if status.st_uid not in self._owners:
                raise errors.NotConfigured(
                    "the broker's epoch file belongs to a user that may not be the broker",
                    detail=f"user id {status.st_uid}",
                )
            mapped = mmap.mmap(descriptor, FILE_BYTES, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)
        if mapped[:8] != MAGIC:
            raise errors.NotConfigured("the broker's epoch file has another format")
        self._file = _identity(status)
        return mapped


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


START_HINT = (
    "Start it: pg-envelope broker --config FILE. The server finds its socket through PG_ENVELOPE_SOCKET in the "
    "postmaster's environment, or /etc/pg_envelope/backend.conf."
)
