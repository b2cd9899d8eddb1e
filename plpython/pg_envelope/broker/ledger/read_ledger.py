"""Keeps the ledger of reads: a file of lines, its tree, and signed checkpoints. FORMAT.md section 11."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pg_envelope import errors, merkle
from pg_envelope.broker.ledger.anchors import Keep, anchor_of, append
from pg_envelope.broker.ledger.held import HeldFile
from pg_envelope.broker.watch import audit as audit_log
from pg_envelope.checkpoints import Checkpoint, PublicKey, notes, opened, signed
from pg_envelope.reads_check import checkpoints_path

WHAT = "ledger of reads"
HINT = (
    "Audited columns cannot be read until it is restored, or moved away with its key and checkpoints: docs/ledger.md."
)
# More rings than sessions can be attached at once. An event can come twice only from one that was attached lately.
MOST_RINGS = 10_000

# The numbered entries. A text in JSON has no such quotes, so no name can be taken for these members.
NUMBERED = re.compile(rb'\{"event":"(?:read|damaged)",.*"ring":"([0-9a-f]{32})","seq":(\d+)[,}]')

# json.dumps() would make an encoder for each line.
ENCODE = json.JSONEncoder(separators=(",", ":")).encode

Entry = dict[str, Any]


class ReadLedger:
    """One process writes. A line is on the disk when `add` returns."""

    def __init__(self, path: Path, environment: str, anchor: str = "", kv: Keep | None = None) -> None:
        """Loads the whole file. Raises NotConfigured when it is not whole, or not ours.

        Each checkpoint also goes to `anchor`, if there is one: a file, syslog, or a KV, which `kv` writes.
        """
        self._held = HeldFile(path, WHAT, HINT)
        self._keep: list[Keep] = [partial(append, checkpoints_path(path)), *([anchor_of(anchor, kv)] if anchor else [])]
        self._tree = merkle.Tree()
        self._taken: OrderedDict[str, int] = OrderedDict()
        try:
            self.public = PublicKey(origin(environment), self._held.key.public_key().public_bytes_raw())
            self.statement_key = _statement_key(self._held.key.private_bytes_raw())
            self.cut = self._held.recover()
            self._load(path)
            _publish(path, self.public)
        except BaseException:
            self._held.close()
            raise

    @property
    def size(self) -> int:
        """The number of lines."""
        return self._tree.size

    def taken(self, ring: str) -> int:
        """Returns the number of the last event of a ring that is here."""
        return self._taken.get(ring, 0)

    def add(self, entries: Iterable[Entry]) -> None:
        """Writes lines, and returns once they are on the disk. Raises Internal when they cannot be written."""
        listed = list(entries)
        lines = [ENCODE(entry).encode() for entry in listed]
        if not lines:
            return
        self._held.append(b"".join(line + b"\n" for line in lines))
        for entry, line in zip(listed, lines, strict=True):
            self._note(entry, line)

    def checkpoint(self, now: float) -> Checkpoint:
        """Signs the lines so far, in the file of checkpoints and in the anchor. Raises Internal."""
        found = Checkpoint(self.public.name, self.size, self._tree.root(), int(now))
        note = signed(found, self._held.key).encode()
        for keep in self._keep:
            keep(note)
        return found

    def close(self) -> None:
        self._held.close()

    def _load(self, path: Path) -> None:
        """Compares the file with its last checkpoint. Raises NotConfigured when lines are missing or were changed."""
        last = self._last(path)
        with open(path, "rb") as file:
            for raw in file:
                self._load_line(path, raw.removesuffix(b"\n"))
                if last is not None and last.size == self.size and last.root != self._tree.root():
                    raise broken(path, f"its first {last.size} lines are not those of its last checkpoint")
        if last is not None and self.size < last.size:
            raise broken(path, f"it has {self.size} lines, and its last checkpoint has {last.size}")

    def _load_line(self, path: Path, line: bytes) -> None:
        """Reads of the line only what counts here: to read all of it as JSON takes twice as long."""
        found = NUMBERED.match(line)
        if found is None:
            _check(path, self.size + 1, line)
        else:
            self._take(found[1].decode(), int(found[2]))
        self._tree.add(line)

    def _last(self, path: Path) -> Checkpoint | None:
        file = checkpoints_path(path)
        if not file.exists():
            return None
        try:
            *_, note = notes(file.read_text())
            return opened(note, self.public)
        except (errors.BadInput, ValueError):
            raise broken(path, "its last checkpoint does not hold") from None

    def _note(self, entry: Entry, line: bytes) -> None:
        self._tree.add(line)
        if entry.get("event") in ("read", "damaged"):
            self._take(entry["ring"], entry["seq"])

    def _take(self, ring: str, seq: int) -> None:
        self._taken[ring] = seq
        self._taken.move_to_end(ring)
        if len(self._taken) > MOST_RINGS:
            self._taken.popitem(last=False)


def _statement_key(seed: bytes) -> bytes:
    """Returns the key of the statements' hashes: it comes from the ledger's own, and so stays."""
    return HKDF(SHA256(), 32, None, b"pg_envelope/1 statement").derive(seed)


def origin(environment: str) -> str:
    """Returns the name of an environment's ledger in its checkpoints."""
    return f"pg_envelope/{environment}"


def public_key_path(path: Path) -> Path:
    return path.with_name(path.name + ".pub")


def event(name: str, **facts: object) -> Entry:
    """Returns an entry of the broker's own, with the time of now."""
    return {"event": name, "timestamp": audit_log.now(), **facts}


def broken(path: Path, problem: str) -> errors.NotConfigured:
    return errors.NotConfigured(f"the {WHAT} is broken: {path}: {problem}", hint=HINT)


def _check(path: Path, number: int, line: bytes) -> None:
    """Raises NotConfigured for a line that is no entry."""
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict) or "event" not in entry:
        raise broken(path, f"line {number} is no entry")


def _publish(path: Path, public: PublicKey) -> None:
    """Writes the public key beside the ledger, for people to copy to where they check the ledger."""
    file = public_key_path(path)
    if not file.exists():
        append(file, f"{public}\n".encode())
