"""Writes and reads the file of a backup as a stream: lines of JSON, FORMAT.md section 6.3."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from uuid import UUID

from pg_envelope_client.problems import Problem
from pg_envelope_client.setup import private_files

VERSION = 1
MAX_LINE = 64 * 1024
MEMBERS = ("dek_id", "key_uuid", "label", "version", "state", "kek", "store", "kek_version", "fingerprint", "sealed")

Line = dict[str, Any]


@dataclass(frozen=True)
class Head:
    """The database that the DEKs belong to, and the break-glass key that they are sealed for."""

    database: UUID
    environment: str
    public_key: str
    made: str


class SealedDek(NamedTuple):
    """A sealed DEK, with the fingerprint by which the right DEK is known."""

    dek_id: int
    fingerprint: bytes
    sealed: str


class Writer:
    """Writes one line after the other, and the checksum at the end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash, self.count = file, hashlib.sha256(), 0

    def head(self, head: Head) -> None:
        self._write(
            {
                "pg_envelope_keys": VERSION,
                "database_uuid": str(head.database),
                "environment": head.environment,
                "public_key": head.public_key,
                "made": head.made,
            }
        )

    def dek(self, row: Line) -> None:
        self._write({name: row[name] for name in MEMBERS})
        self.count += 1

    def end(self) -> None:
        self._write({"deks": self.count, "sha256": self._hash.hexdigest()})

    def _write(self, line: Line) -> None:
        text = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        self._hash.update(text)
        self._file.write(text)


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """Makes a new file of mode 0600. It has its name only when it is whole and on the disk. Raises Problem."""
    with private_files.new_file(path) as file:
        writer = Writer(file)
        yield writer
        writer.end()


class Reader:
    """Reads a file from its first byte to its last, so that damage is found before anything is done with it."""

    def __init__(self, path: Path) -> None:
        """Raises Problem when the file is damaged, cut off, or missing."""
        lines = _checked(path)
        self.head = _head(path, next(lines))
        self.deks: list[SealedDek] = []
        line = Line()
        for line in lines:
            if "sha256" not in line:
                self.deks.append(_dek(path, line))
        if line.get("deks") != len(self.deks) or len({dek.dek_id for dek in self.deks}) != len(self.deks):
            raise _damaged(path)


def _checked(path: Path) -> Iterator[Line]:
    """Yields all lines, the last one after its checksum was found to fit the others."""
    seen, found = hashlib.sha256(), Line()
    with path.open("rb") as file:
        for text in iter(lambda: file.readline(MAX_LINE), b""):
            if "sha256" in found:
                raise _damaged(path)
            found = _parsed(path, text)
            if found.get("sha256", seen.hexdigest()) != seen.hexdigest():
                raise _damaged(path)
            seen.update(text)
            yield found
    if "sha256" not in found:
        raise Problem(f"{path} is not whole: its last line is missing", hint="Make the backup again.")


def _parsed(path: Path, text: bytes) -> Line:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not text.endswith(b"\n"):
        raise _damaged(path)
    return found


def _head(path: Path, line: Line) -> Head:
    if line.get("pg_envelope_keys") != VERSION:
        raise Problem(f"{path} is no backup of keys that this version reads")
    try:
        return Head(UUID(line["database_uuid"]), *(str(line[name]) for name in ("environment", "public_key", "made")))
    except (LookupError, TypeError, ValueError, AttributeError):
        raise _damaged(path) from None


def _dek(path: Path, line: Line) -> SealedDek:
    try:
        if type(line["dek_id"]) is not int or not isinstance(line["sealed"], str):
            raise ValueError
        return SealedDek(line["dek_id"], bytes.fromhex(line["fingerprint"]), line["sealed"])
    except (LookupError, TypeError, ValueError):
        raise _damaged(path) from None


def _damaged(path: Path) -> Problem:
    return Problem(f"{path} is damaged: its lines do not fit its checksum", hint="Take another copy of the backup.")
