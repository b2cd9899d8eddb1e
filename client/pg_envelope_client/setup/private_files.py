"""Writes files with secrets at once and with their mode from the first byte. Refuses those that others can read."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from pg_envelope.broker.system.files import sync_folder
from pg_envelope_client.problems import Problem

SECRET = 0o600
CONFIG = 0o640
PUBLIC = 0o644
OTHERS = stat.S_IROTH | stat.S_IWOTH


def write(path: Path, content: bytes, mode: int) -> None:
    """Puts `content` in place of `path`, with its owner. A reader sees the old file or the new one, never a part."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write_new(draft, content, mode)
        _keep_owner(path, draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Yields a new file of mode 0600. It has its name only when it is whole and on the disk. Raises Problem."""
    if path.exists():
        raise Problem(f"{path} exists already", hint="A backup is never overwritten: choose another name.")
    draft = path.with_name(f".{path.name}.part")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, SECRET)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # A link, and not a rename, because a link fails when somebody else's file has this name meanwhile.
        os.link(draft, path)
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb") as target:
        os.fchmod(target.fileno(), mode)
        target.write(content)
        target.flush()
        os.fsync(target.fileno())


def _keep_owner(path: Path, draft: Path) -> None:
    # Without this, root's second init would take the file away from the broker's user.
    if path.exists() and os.geteuid() == 0:
        old = path.stat()
        os.chown(draft, old.st_uid, old.st_gid)


def read_secret(path: Path) -> str:
    """Returns the text of a file that holds one secret. Raises Problem if it is empty or others have rights to it."""
    with path.open(encoding="utf-8") as source:
        if os.fstat(source.fileno()).st_mode & OTHERS:
            raise Problem(f"every user of this machine may read or change {path}", hint=f"chmod 600 {path}")
        secret = _text(source, path).strip()
    if not secret:
        raise Problem(f"{path} is empty")
    return secret


def _text(source: TextIO, path: Path) -> str:
    try:
        return source.read()
    except UnicodeDecodeError:
        raise Problem(f"{path} is not text") from None


def read_secret_if_there(path: Path) -> str | None:
    return read_secret(path) if path.exists() else None
