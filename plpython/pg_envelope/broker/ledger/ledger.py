"""Keeps an append-only file of signed lines, each with the hash of the one before: FORMAT.md section 7."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pg_envelope import errors
from pg_envelope.broker.ledger import held
from pg_envelope.broker.ledger.held import HeldFile

VERSION = 1
FIRST = "0" * 64
SIGNATURE = b',"signature":"'
USUAL_LINE = 4096
WHAT = "ledger of erasures"
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
        self.path = path
        self._held = HeldFile(path, WHAT, RESTORE_HINT)
        self.cut, self.count, self.head = 0, 0, FIRST

    @property
    def public_key(self) -> bytes:
        return self._held.key.public_key().public_bytes_raw()

    def load(self) -> Iterator[tuple[int, Entry]]:
        """Yields (offset, entry) of each line. After the last one the ledger can be added to. Raises Broken."""
        self.cut = self._held.recover()
        for offset, line, entry in verified(self.path, self.public_key):
            self.count, self.head = self.count + 1, _hash(line)
            yield offset, entry

    def add(self, facts: Entry) -> tuple[int, Entry]:
        """Writes a line, and returns once it is on the disk: its offset and the entry. Raises Internal."""
        entry = {"v": VERSION, "n": self.count + 1, **facts, "previous": self.head}
        line = _signed(entry, self._held.key)
        offset = self._held.append(line + b"\n")
        self.count, self.head = self.count + 1, _hash(line)
        return offset, entry

    def read(self, offset: int) -> bytes:
        """Returns the line at an offset that `load` or `add` gave."""
        found = b""
        while b"\n" not in found and (more := os.pread(self._held.file, USUAL_LINE, offset + len(found))):
            found += more
        return found.partition(b"\n")[0]

    def verify(self) -> tuple[int, str]:
        """Reads the file again, up to its present end. Returns its number of lines, and the last one's hash. Raises
        Broken.
        """
        end, expected, number, line = self._held.end, (self.count, self.head), 0, b""
        for _, found, entry in verified(self.path, self.public_key, end):
            line, number = found, entry["n"]
        if (number, _hash(line) if number else FIRST) != expected:
            raise Broken(self.path, number, "it is not the last one that was written")
        return expected

    def close(self) -> None:
        self._held.close()


def check_directory(path: Path) -> None:
    """Raises NotConfigured when a ledger cannot be there."""
    held.check_directory(path, WHAT)


def key_path(path: Path) -> Path:
    """Returns the file beside a ledger that holds its private key."""
    return held.key_path(path)


def public_key_of(path: Path) -> bytes:
    """Returns the public key of a ledger of ours. Raises NotConfigured."""
    return Ed25519PrivateKey.from_private_bytes(held.seed(key_path(path), RESTORE_HINT)).public_key().public_bytes_raw()


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
