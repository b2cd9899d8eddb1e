"""The revocation epoch as a backend sees it: a few mapped bytes of the broker's file, FORMAT.md section 4.1."""

from __future__ import annotations

import mmap
import os

from pg_envelope import errors

MAGIC = b"pgenvep1"
FILE_BYTES = 16


class Epoch:
    """Maps the file when first asked; `current()` then costs one slice of 8 bytes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._map: mmap.mmap | None = None

    def current(self) -> bytes:
        """The counter's bytes now. Raises NotConfigured when the file cannot be mapped."""
        if self._map is None:
            self._map = self._open()
        return self._map[8:16]

    def _open(self) -> mmap.mmap:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                mapped = mmap.mmap(descriptor, FILE_BYTES, prot=mmap.PROT_READ)
            finally:
                os.close(descriptor)
        except (OSError, ValueError):
            raise errors.Unavailable(
                "the key broker is not running", detail="its epoch file cannot be read", hint=START_HINT
            ) from None
        if mapped[:8] != MAGIC:
            raise errors.NotConfigured("the broker's epoch file has another format")
        return mapped


START_HINT = (
    "Start it: pg-envelope broker --config FILE. The server finds its socket through PG_ENVELOPE_SOCKET in the "
    "postmaster's environment, or /etc/pg_envelope/backend.conf."
)
