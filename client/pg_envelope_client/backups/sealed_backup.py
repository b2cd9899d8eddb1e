"""Writes a sealed backup, and opens one that is there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from pg_envelope import errors
from pg_envelope_client.backups import head as heads
from pg_envelope_client.backups.head import AboutCluster, BackupHead
from pg_envelope_client.problems import Problem
from pg_envelope_client.setup import private_files


def write(path: Path, head: BackupHead, file_key: bytes, source: IO[bytes], ended: Callable[[], None]) -> None:
    """Writes a new file, from what `source` has. `ended` raises when the source did not end well: then there is no
    file.
    """
    with private_files.new_file(path) as file:
        file.write(head.written())
        head.chunks(file_key).seal_all(source, file, ended)


class OpenBackup:
    """A sealed backup with its file key."""

    def __init__(self, path: Path, head: BackupHead, file_key: bytes) -> None:
        """Raises Problem when the key or the head is another one."""
        self.path, self.head, self._file_key = path, head, file_key
        self.about: AboutCluster = heads.opened_about(file_key, head)

    def check(self) -> None:
        """Opens the file to its end. Raises Problem."""
        with open(os.devnull, "wb") as nowhere:
            self.write(nowhere)

    def write(self, target: IO[bytes]) -> None:
        """Writes the content. What was written is whole only when it returns. Raises Problem."""
        with self.path.open("rb") as file:
            same = heads.read_from(file, self.path) == self.head
            try:
                if not same:
                    raise errors.InvalidEnvelope
                self.head.chunks(self._file_key).open_all(file, target)
            except errors.InvalidEnvelope:
                raise Problem(
                    f"{self.path} cannot be opened to its end", hint="It was altered or cut. Take another backup."
                ) from None
