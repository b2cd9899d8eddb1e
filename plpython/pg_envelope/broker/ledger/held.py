"""Holds an append-only file of lines and the key that signs it, under a lock: one process writes.

A line counts once it is on the disk whole. The rest of a line that a crash left was never acknowledged, and is cut off.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pg_envelope import errors
from pg_envelope.broker.system import files

SEED_BYTES = 32
MODE = files.PRIVATE
CHUNK = 1 << 20


class HeldFile:
    """The file and its key. `what` names the ledger and `hint` says what to do when it is damaged, both for errors."""

    def __init__(self, path: Path, what: str, hint: str) -> None:
        """Makes both files when there is neither. Raises NotConfigured when they are not ours, or in use."""
        self.path, self._what, self._hint = path, what, hint
        check_directory(path, what)
        self._begin()
        self.key = Ed25519PrivateKey.from_private_bytes(seed(key_path(path), hint))
        self.file = self._opened()
        self.end = 0

    def recover(self) -> int:
        """Cuts off the rest of the last line that a crash left: no newline, or blocks that were never written.

        Returns how many bytes it cut off. What is added next follows the last whole line.
        """
        self.end = _whole_lines(self.file)
        cut = os.fstat(self.file).st_size - self.end
        if cut:
            os.ftruncate(self.file, self.end)
            os.fsync(self.file)
        return cut

    def append(self, lines: bytes) -> int:
        """Writes whole lines, and returns their offset once they are on the disk. Raises Internal."""
        try:
            _write(self.file, lines, self.end)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self.file, self.end)
            raise errors.Internal(f"the broker cannot write its {self._what}") from None
        offset, self.end = self.end, self.end + len(lines)
        return offset

    def close(self) -> None:
        os.close(self.file)

    def _begin(self) -> None:
        """Makes key and ledger. The key gets its name last: it shows that the ledger was there, if that is missing
        later.
        """
        key = key_path(self.path)
        draft = key.with_name(key.name + ".new")
        if key.exists() != self.path.exists() and not (draft.exists() and _is_draft(self.path)):
            raise errors.NotConfigured(
                f"the {self._what} or its key is missing: {self.path}, {key.name}", hint=self._hint
            )
        if key.exists():
            return
        try:
            _create(draft, os.urandom(SEED_BYTES).hex().encode())
            _create(self.path, b"")
            draft.rename(key)
            files.sync_folder(self.path.parent)
        except OSError as error:
            raise errors.NotConfigured(
                f"the {self._what} cannot be made", detail=f"{self.path}: {error.strerror}"
            ) from None

    def _opened(self) -> int:
        file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            files.refuse_shared(os.fstat(file), self.path)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except errors.EnvelopeError:
            os.close(file)
            raise
        except OSError:
            os.close(file)
            raise errors.NotConfigured(
                f"another broker runs with this {self._what}", detail=str(self.path), hint="Stop it first."
            ) from None
        return file


def check_directory(path: Path, what: str) -> None:
    """Raises NotConfigured when a ledger cannot be there."""
    try:
        files.refuse_shared_directory(path.parent)
    except errors.NotConfigured as error:
        error.hint = f"The {what} needs it: install -d -m 0700 -o <broker's user> {path.parent}"
        raise


def key_path(path: Path) -> Path:
    """Returns the file beside a ledger that holds its private key."""
    return path.with_name(path.name + ".key")


def seed(path: Path, hint: str) -> bytes:
    """Returns the private key in a file. Raises NotConfigured."""
    try:
        found = bytes.fromhex(files.read_secret(path))
    except ValueError:
        found = b""
    if len(found) != SEED_BYTES:
        raise errors.NotConfigured(f"{path} is not the key of a ledger", hint=hint)
    return found


def _is_draft(path: Path) -> bool:
    """Tells whether a start that was cut off left this: a ledger without a line, or none."""
    return not path.exists() or path.stat().st_size == 0


def _create(path: Path, content: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
    try:
        os.write(file, content)
        os.fsync(file)
    finally:
        os.close(file)


def _write(file: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written
    os.fsync(file)


def _whole_lines(file: int) -> int:
    """Returns the offset after the last whole line. JSON holds no NUL, so a last line with a NUL was not written to its
    end.
    """
    size = os.fstat(file).st_size
    tail = b""
    while tail.count(b"\n", 0, -1) < 1 and len(tail) < size:
        length = min(size, len(tail) + CHUNK)
        tail = os.pread(file, length, size - length)
    end = size - len(tail) + tail.rfind(b"\n") + 1
    last = tail[tail.rfind(b"\n", 0, max(0, tail.rfind(b"\n"))) + 1 : tail.rfind(b"\n") + 1]
    return end - len(last) if b"\0" in last else end
