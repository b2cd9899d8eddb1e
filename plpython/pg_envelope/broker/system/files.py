"""Reads files that hold secrets, and refuses those that others could read or replace. Puts names on the disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pg_envelope import errors

PRIVATE = 0o600
CONFIG = 0o640
# systemd's credentials look so: root owns the files, and the group's bits show the service user's access.
CREDENTIAL = 0o440
MAX_SECRET = 1 << 20


def read_private(path: Path, most: int = PRIVATE) -> bytes:
    """Returns the file's bytes. Raises NotConfigured when its mode goes beyond `most` or its owner is neither us nor
    root.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            refuse_shared(os.fstat(file.fileno()), path, most | _credential(path))
            return file.read(MAX_SECRET)
    except OSError as error:
        raise errors.NotConfigured(f"cannot read {path}", detail=error.strerror) from None


def sync_folder(folder: Path) -> None:
    """Puts the names of a folder on the disk, so that a new file outlives a crash."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _without_waiting(path: str, flags: int) -> int:
    """Opens without waiting: a pipe may have no writer, and is refused because it is a pipe."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _credential(path: Path) -> int:
    """Returns the mode that a file may have as one of systemd's credentials: only the service's user can enter their
    folder.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return CREDENTIAL if folder and path.parent == Path(folder) else 0


def read_secret(path: Path) -> str:
    """Returns one secret as text, without the line end that editors add. Raises NotConfigured."""
    try:
        secret = read_private(path).decode().strip()
    except UnicodeDecodeError:
        secret = ""
    if not secret:
        raise errors.NotConfigured(f"{path} holds no text")
    return secret


def refuse_shared_directory(path: Path) -> None:
    """Raises NotConfigured when others could replace what is in the directory."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise errors.NotConfigured(f"cannot use the directory {path}", detail=error.strerror) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022 or found.st_uid not in (0, os.geteuid()):
        raise errors.NotConfigured(
            f"the directory {path} is not private to the broker",
            hint="It must belong to the broker's user or root, and be writable by its owner only (mode 0755 or less).",
        )


def refuse_shared(found: os.stat_result, path: Path, most: int = PRIVATE) -> None:
    """Raises NotConfigured for anything but a file, for a mode beyond `most`, and for any owner but us and root."""
    if not stat.S_ISREG(found.st_mode):
        raise errors.NotConfigured(f"{path} is not a regular file")
    if stat.S_IMODE(found.st_mode) & ~most:
        raise errors.NotConfigured(
            f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o})", hint=f"chmod {most:04o} {path}"
        )
    if found.st_uid not in (0, os.geteuid()):
        raise errors.NotConfigured(
            f"{path} belongs to another user", hint="Its owner must be the broker's user or root."
        )
