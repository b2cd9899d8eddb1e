"""The backups in one folder: which of them were verified, and which are old enough to go."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from pg_envelope_client.backups import head as heads
from pg_envelope_client.backups.head import BackupHead
from pg_envelope_client.problems import Problem
from pg_envelope_client.setup import private_files

SUFFIX = ".backup"
# A backup that is going: the database may not have been told yet.
GOING = ".pruned"
VERIFIED = ".verified"


class StoredBackup(NamedTuple):
    """One file of the folder, with its head, and whether it was verified as it is now."""

    path: Path
    head: BackupHead
    verified: bool

    @property
    def made(self) -> datetime:
        return datetime.fromisoformat(self.head.made)


def path_of(folder: Path, label: str) -> Path:
    return folder / f"{label}{SUFFIX}"


def mark_verified(path: Path, head: BackupHead, when: str) -> None:
    """Notes beside the file that it was verified. The note counts for this very file only."""
    note = json.dumps({**_identity(path, head), "verified": when}).encode() + b"\n"
    private_files.write(_note(path), note, private_files.SECRET)


def all_of(folder: Path, database: UUID) -> Iterator[StoredBackup | Problem]:
    """Yields the backups of a database, oldest name first; in the place of a damaged one its Problem."""
    for path in sorted([*folder.glob(f"*{SUFFIX}"), *folder.glob(f"*{SUFFIX}{GOING}")]):
        try:
            head = heads.read(path)
            found = StoredBackup(path, head, _verified(path, head))
        except Problem as problem:
            yield problem
        else:
            if head.database != database:
                continue
            # The label would be forgotten with a copy, although the backup itself is there.
            named = path.name.removesuffix(GOING) == path_of(folder, head.label).name
            yield found if named else Problem(f"{path} has another name than its label")


def old(found: list[StoredBackup], before: datetime) -> list[StoredBackup]:
    """Returns those that were made before, without the newest verified one. Without a verified one: none."""
    verified = [one for one in found if one.verified]
    if not verified:
        return []
    kept = max(verified, key=lambda one: one.made)
    return [one for one in found if one.made < before and one is not kept]


def is_going(path: Path) -> bool:
    return path.suffix == GOING


def going(path: Path) -> Path:
    """Gives a file the name of one that is going. From now on it counts as no backup."""
    return path if is_going(path) else path.rename(path.with_name(path.name + GOING))


def remove(path: Path) -> None:
    """Removes a file that is going, and its note."""
    _note(path.with_suffix("")).unlink(missing_ok=True)
    path.unlink()


def _verified(path: Path, head: BackupHead) -> bool:
    if is_going(path):
        return False
    try:
        told = json.loads(_note(path).read_bytes())
        return isinstance(told, dict) and _identity(path, head).items() <= told.items()
    except (OSError, ValueError):
        return False


def _identity(path: Path, head: BackupHead) -> dict[str, object]:
    return {"head": hashlib.sha256(head.written()).hexdigest(), "bytes": path.stat().st_size}


def _note(path: Path) -> Path:
    return path.with_name(path.name + VERIFIED)
