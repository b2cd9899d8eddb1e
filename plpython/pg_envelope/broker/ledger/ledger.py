"""Keeps an append-only file of signed lines, each with the hash of the one before: FORMAT.md section 7.

A line counts once it is on the disk whole. The rest of a line that a crash left was never acknowledged, and is cut off.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pg_envelope import errors
from pg_envelope.broker.system import files

VERSION = 1
FIRST = "0" * 64
SIGNATURE = b',"signature":"'
SEED_BYTES = 32
CHUNK = 1 << 20
USUAL_LINE = 4096
RESTORE_HINT = "Restore both the ledger and its key from a backup. Without them this broker would open erased DEKs."

Entry = dict[str, Any]


class Broken(errors.NotConfigured):
    """The ledger differs from what the broker wrote."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"the ledger of erasures is broken: {path}, line {line}: {problem}", hint=RESTORE_HINT)


class Ledger:
    """The file and its key, held under a lock, so that only one process writes."""

    def __init__(self, path: Path) -> None:
        """Makes both files when there is neither. Raises NotConfigured when they are not ours, or in use."""
        self.path, self.key_path = path, key_path(path)
        check_directory(path)
        self._begin()
        self._key = Ed25519PrivateKey.from_private_bytes(_seed(self.key_path))
        self._file = _opened(path)
        self.cut, self.count, self.head, self._end = 0, 0, FIRST, 0

    @property
    def public_key(self) -> bytes:
        return self._key.public_key().public_bytes_raw()

    def load(self) -> Iterator[tuple[int, Entry]]:
        """Yields (offset, entry) of each line. After the last one the ledger can be added to. Raises Broken."""
        self._recover()
        for offset, line, entry in verified(self.path, self.public_key):
            self.count, self.head, self._end = self.count + 1, _hash(line), offset + len(line) + 1
            yield offset, entry

    def add(self, facts: Entry) -> tuple[int, Entry]:
        """Writes a line, and returns once it is on the disk: its offset and the entry. Raises Internal."""
        entry = {"v": VERSION, "n": self.count + 1, **facts, "previous": self.head}
        line = _signed(entry, self._key)
        try:
            _write(self._file, line + b"\n", self._end)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._end)
            raise errors.Internal("the broker cannot write its ledger of erasures") from None
        offset, self._end = self._end, self._end + len(line) + 1
        self.count, self.head = self.count + 1, _hash(line)
        return offset, entry

    def read(self, offset: int) -> bytes:
        """Returns the line at an offset that `load` or `add` gave."""
        found = b""
        while b"\n" not in found and (more := os.pread(self._file, USUAL_LINE, offset + len(found))):
            found += more
        return found.partition(b"\n")[0]

    def verify(self) -> tuple[int, str]:
        """Reads the file again, up to its present end. Returns its number of lines, and the last one's hash. Raises
        Broken.
        """
        end, expected, number, line = self._end, (self.count, self.head), 0, b""
        for _, found, entry in verified(self.path, self.public_key, end):
            line, number = found, entry["n"]
        if (number, _hash(line) if number else FIRST) != expected:
            raise Broken(self.path, number, "it is not the last one that was written")
        return expected

    def close(self) -> None:
        os.close(self._file)

    def _begin(self) -> None:
        """Makes key and ledger. The key gets its name last: it shows that the ledger was there, if that is missing
        later.
        """
        draft = self.key_path.with_name(self.key_path.name + ".new")
        if self.key_path.exists() != self.path.exists() and not (draft.exists() and _is_draft(self.path)):
            raise errors.NotConfigured(
                f"the ledger of erasures or its key is missing: {self.path}, {self.key_path.name}",
                hint=RESTORE_HINT,
            )
        if self.key_path.exists():
            return
        try:
            _create(draft, os.urandom(SEED_BYTES).hex().encode())
            _create(self.path, b"")
            draft.rename(self.key_path)
            _sync_directory(self.path.parent)
        except OSError as error:
            raise errors.NotConfigured(
                "the ledger of erasures cannot be made", detail=f"{self.path}: {error.strerror}"
            ) from None

    def _recover(self) -> None:
        """Cuts off the rest of the last line that a crash left: no newline, or blocks that were never written."""
        end, size = _whole_lines(self._file), os.fstat(self._file).st_size
        self.cut = size - end
        if self.cut:
            os.ftruncate(self._file, end)
            os.fsync(self._file)


def check_directory(path: Path) -> None:
    """Raises NotConfigured when a ledger cannot be there."""
    try:
        files.refuse_shared_directory(path.parent)
    except errors.NotConfigured as error:
        error.hint = f"The ledger of erasures needs it: install -d -m 0700 -o <broker's user> {path.parent}"
        raise


def key_path(path: Path) -> Path:
    """Returns the file beside a ledger that holds its private key."""
    return path.with_name(path.name + ".key")


def public_key_of(path: Path) -> bytes:
    """Returns the public key of a ledger of ours. Raises NotConfigured."""
    return Ed25519PrivateKey.from_private_bytes(_seed(key_path(path))).public_key().public_bytes_raw()


def verified(path: Path, public_key: bytes, end: int | None = None) -> Iterator[tuple[int, bytes, Entry]]:
    """Yields (offset, line, entry) of each line of an unbroken chain, up to the offset `end`.

    The last line's signature covers all lines, because each is bound by the hash in the next one. Raises Broken, with
    the line that its successor does not name.
    """
    previous, number, offset, line = FIRST, 0, 0, b""
    with open(path, "rb") as file:
        for raw in file:
            # A line without its end is being written, or was never acknowledged.
            if offset == end or not raw.endswith(b"\n"):
                break
            line, number = raw.removesuffix(b"\n"), number + 1
            entry = _entry(path, number, line)
            if entry["previous"] != previous:
                raise Broken(path, max(1, number - 1), "the next line names another one")
            yield offset, line, entry
            previous, offset = _hash(line), offset + len(raw)
    if number:
        check_signature(path, number, line, public_key)


def check_signature(path: Path, number: int, line: bytes, public_key: bytes) -> None:
    """Raises Broken unless the key signed this line."""
    body, _, rest = line.rpartition(SIGNATURE)
    try:
        signature = base64.b64decode(rest.removesuffix(b'"}'), validate=True)
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, body + b"}")
    except (ValueError, InvalidSignature):
        raise Broken(path, number, "its signature is not this ledger's") from None


def _entry(path: Path, number: int, line: bytes) -> Entry:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict) or entry.get("v") != VERSION or entry.get("n") != number or "previous" not in entry:
        raise Broken(path, number, "it is no entry of this version with this number")
    return entry


def _signed(entry: Entry, key: Ed25519PrivateKey) -> bytes:
    body = json.dumps(entry, separators=(",", ":")).encode()
    return body[:-1] + SIGNATURE + base64.b64encode(key.sign(body)) + b'"}'


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _seed(path: Path) -> bytes:
    try:
        seed = bytes.fromhex(files.read_secret(path))
    except ValueError:
        seed = b""
    if len(seed) != SEED_BYTES:
        raise errors.NotConfigured(f"{path} is not the key of a ledger", hint=RESTORE_HINT)
    return seed


def _opened(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        files.refuse_shared(os.fstat(file), path)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except errors.EnvelopeError:
        os.close(file)
        raise
    except OSError:
        os.close(file)
        raise errors.NotConfigured(
            "another broker runs with this ledger of erasures", detail=str(path), hint="Stop it first."
        ) from None
    return file


def _is_draft(path: Path) -> bool:
    """Tells whether a start that was cut off left this: a ledger without a line, or none."""
    return not path.exists() or path.stat().st_size == 0


def _create(path: Path, content: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, files.PRIVATE)
    try:
        os.write(file, content)
        os.fsync(file)
    finally:
        os.close(file)


def _sync_directory(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
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
