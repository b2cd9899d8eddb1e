"""Tells which DEKs were erased, by the ledger. The broker gives an erased DEK to nobody."""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from pg_envelope.broker.ledger.ledger import Broken, Entry, Ledger

PAGE_BYTES = 500_000

Place = int | list[int]


class Proof(NamedTuple):
    """The number of the ledger's lines, and the hash of its last line."""

    lines: int
    head: str


@dataclass(frozen=True)
class DyingDek:
    """A DEK to be erased, as the ledger keeps it."""

    dek_id: int
    fingerprint: bytes
    kek: str
    store: str
    kek_version: int | None


class Erasures:
    """The broker asks it before it opens a DEK, and again before it hands the DEK out.

    It holds offsets, not entries.
    """

    def __init__(self, path: Path) -> None:
        """Loads the whole ledger. Raises NotConfigured when it is not whole, or not ours."""
        self._ledger = Ledger(path)
        self._places: dict[str, dict[int, Place]] = {}
        self._offsets: dict[str, array[int]] = {}
        self._verified: Proof | None = None
        try:
            for number, (offset, entry) in enumerate(self._ledger.load(), 1):
                self._note_loaded(path, number, offset, entry)
        except BaseException:
            self._ledger.close()
            raise

    @property
    def cut(self) -> int:
        """The bytes of an entry that a crash left unfinished. The entry was never acknowledged."""
        return self._ledger.cut

    @property
    def proof(self) -> Proof:
        return Proof(self._ledger.count, self._ledger.head)

    @property
    def public_key(self) -> bytes:
        return self._ledger.public_key

    def knows(self, database: UUID, dek_id: int) -> bool:
        """Tells whether a DEK of this id was erased. The id must not be given to another DEK."""
        return dek_id in self._places.get(str(database), {})

    def entry(self, database: UUID, dek_id: int, fingerprint: bytes) -> Entry | None:
        """Returns the entry that erased this DEK, or None. It compares the fingerprint, because a clone can have
        another DEK of this id.
        """
        place = self._places.get(str(database), {}).get(dek_id)
        if place is None:
            return None
        named = [dek_id, fingerprint.hex()]
        entries = (json.loads(self._ledger.read(offset)) for offset in ([place] if isinstance(place, int) else place))
        return next((entry for entry in entries if any(dek[:2] == named for dek in entry["deks"])), None)

    def dead(self, database: UUID, dek_id: int, fingerprint: bytes) -> bool:
        return self.entry(database, dek_id, fingerprint) is not None

    def add(self, database: UUID, deks: Sequence[DyingDek], facts: Entry) -> Entry:
        """Returns the entry, once it is on the disk: from here on these DEKs are dead. Raises Internal when it cannot
        be written.
        """
        listed = [[dek.dek_id, dek.fingerprint.hex(), dek.kek, dek.store, dek.kek_version] for dek in deks]
        offset, entry = self._ledger.add({"database": str(database), **facts, "deks": listed})
        self._note(offset, entry)
        return entry

    def count(self, database: UUID) -> int:
        """Returns how many DEKs of a database are dead."""
        places = self._places.get(str(database), {}).values()
        return sum(1 if isinstance(place, int) else len(place) for place in places)

    def page(self, database: UUID, after: int, most: int) -> list[Entry]:
        """Returns entries of a database after the first `after`, oldest first: at most `most`, and as many as fit into
        a response.
        """
        found: list[Entry] = []
        room = PAGE_BYTES
        for offset in self._offsets.get(str(database), array("Q"))[after : after + most]:
            line = self._ledger.read(offset)
            room -= len(line)
            if found and room < 0:
                break
            found.append(json.loads(line))
        return found

    def verify(self) -> None:
        """Reads the ledger again, unless that was done since it grew. Raises Broken; takes seconds when it is long."""
        if self._verified != self.proof:
            self._verified = Proof(*self._ledger.verify())

    def close(self) -> None:
        self._ledger.close()

    def _note_loaded(self, path: Path, number: int, offset: int, entry: Entry) -> None:
        try:
            self._note(offset, entry)
        except (KeyError, TypeError, ValueError, IndexError):
            raise Broken(path, number, "it does not say which DEKs it erased") from None

    def _note(self, offset: int, entry: Entry) -> None:
        database = entry["database"]
        places = self._places.setdefault(database, {})
        self._offsets.setdefault(database, array("Q")).append(offset)
        for dek in entry["deks"]:
            held = places.setdefault(dek[0], offset)
            if held != offset:
                places[dek[0]] = [*(held if isinstance(held, list) else [held]), offset]
