"""Takes events out of the rings of sessions into the ledger of reads."""

from __future__ import annotations

import json
import mmap
import time
from collections.abc import Callable, Set
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pg_envelope import errors, ring
from pg_envelope.broker.ledger.read_ledger import Entry, ReadLedger, event

# A session tells these of an event. Other members are dropped, so a session cannot write other facts than its own.
TOLD = (
    "user",
    "outer",
    "role",
    "application",
    "operation",
    "query_id",
    "statement",
    "field",
    "table",
    "column",
    "key",
    "level",
    "continues",
)
MOST_TEXT = 300
COUNT_SECONDS = 5.0
BUSY_EVENTS = ring.SLOTS // 8
CHECKPOINT_SECONDS = 300.0
# An anchor that hangs holds up reads meanwhile.
RETRY_SECONDS = 15.0


class ToldEvent(NamedTuple):
    """What the ledger has of an event: its number, its count of values, and how many bytes of row keys."""

    seq: int
    values: int = 0
    row_bytes: int = 0


class SessionRing:
    """A session's ring, as the broker sees it. The session may write anything into it, and harm only itself."""

    def __init__(self, descriptor: int, name: str, who: dict[str, Any], pid: int, taken: ReadLedger) -> None:
        """Maps the ring of this name. Raises BadInput for a file that is none."""
        self._memory: mmap.mmap = ring.attach(descriptor)
        self._words = ring.words(self._memory)
        self._id = ring.id_of(self._memory)
        if self._id != name:
            raise errors.BadInput("the ring has another id")
        self._facts = {"database": who.get("database"), "ip": who.get("client"), "pid": pid}
        self._staged: dict[int, ToldEvent] = {}
        # The ledger knows better, but not of a session that has read nothing for long.
        known = min(self._words[ring.TAKEN], self._words[ring.PUBLISHED])
        self._seq = self._next = taken.taken(self._id) or known
        # What was told of each slot. Another broker may have taken events of this ring before. Their counts are told
        # once more.
        self._told = {
            ring.slot(seq): ToldEvent(seq) for seq in range(max(1, self._seq - ring.SLOTS + 1), self._seq + 1)
        }
        self._words[ring.TAKEN] = self._seq
        self.is_broken = False

    @property
    def name(self) -> str:
        return self._id

    @property
    def pending(self) -> int:
        """How many events the session wrote that are not taken yet. Not 0 when it wrote nonsense."""
        return self._words[ring.PUBLISHED] - self._seq

    def has_taken(self, seq: int) -> bool:
        """Tells whether the events up to this number are on the disk."""
        return not self.is_broken and seq <= self._seq

    def begins(self) -> Entry:
        return event("attached", ring=self._id, seq=self._seq, **self._facts)

    def ends(self) -> Entry:
        """Returns the last entry of a ring. A verifier compares its number with the events before it."""
        return event("ended", ring=self._id, seq=self._next)

    def breaks(self) -> Entry:
        """Returns the entry that says that nothing is taken from this ring any more."""
        return event("damaged", ring=self._id, seq=self._seq + 1)

    def take(self) -> list[Entry]:
        """Returns the new events, and the last counts of those whose slots they took. Until `acknowledge` is called
        it returns them again.
        """
        self._staged = {}
        self._next = self._words[ring.PUBLISHED]
        # A session that goes back or far ahead wrote nonsense, or lost events.
        if not self._seq <= self._next <= self._seq + ring.SLOTS:
            self._next = self._seq
            raise errors.BadInput("the numbers in the ring do not fit")
        new = range(self._seq + 1, self._next + 1)
        return [entry for seq in new for entry in (*self._before(seq), self._read(seq))]

    def counts(self) -> list[Entry]:
        """Returns the counts and row keys that have grown since they were told. Until `acknowledge` is called it
        returns them again.
        """
        found = []
        for at, told in {**self._told, **self._staged}.items():
            now = self._now(told.seq)
            if now != told and self._words[at + ring.SEQ] == told.seq:
                self._staged[at] = now
                found.append(self._count(now.seq, now.values, ring.rows(self._memory, self._words, now.seq)))
        return found

    def acknowledge(self) -> None:
        """Called when the entries are on the disk: the session may use the slots of these events again."""
        self._told |= self._staged
        self._staged = {}
        self._words[ring.TAKEN] = self._seq = self._next

    def close(self) -> None:
        self._words.release()
        self._memory.close()

    def _now(self, seq: int) -> ToldEvent:
        """The session counts a value first, and then adds its row key. Both can happen between any two looks."""
        return ToldEvent(seq, self._words[ring.slot(seq) + ring.COUNT], ring.row_bytes(self._words, seq))

    def _before(self, seq: int) -> list[Entry]:
        """Returns the last count of the event whose slot a new event took, if it was not told. The session has seen to
        its row keys before: FORMAT.md section 11.1.
        """
        at = ring.slot(seq)
        told = self._told.get(at, ToldEvent(0))
        now = self._words[at + ring.BEFORE]
        return [self._count(told.seq, now, [])] if told.seq and now > told.values else []

    def _read(self, seq: int) -> Entry:
        at = ring.slot(seq)
        told = _told(ring.read(self._memory, self._words, seq))
        if told is None:
            return event("damaged", ring=self._id, seq=seq)
        self._staged[at] = now = self._now(seq)
        listed = ring.rows(self._memory, self._words, seq)
        return {
            "event": "read",
            **told,
            **self._facts,
            "ring": self._id,
            "seq": seq,
            "count": now.values,
            **({"rows": listed} if listed else {}),
        }

    def _count(self, seq: int, count: int, listed: list[str]) -> Entry:
        return event("count", ring=self._id, seq=seq, count=count, **({"rows": listed} if listed else {}))


def _told(body: bytes | None) -> Entry | None:
    """Returns what a session told of an event. None for a body that no session of this package writes."""
    try:
        found = json.loads(body or b"")
        moment = datetime.fromtimestamp(found["time"] / 1_000_000, UTC).isoformat(timespec="microseconds")
        kept = {name: value for name in TOLD if (value := found.get(name)) is not None}
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, OSError):
        return None
    # A loop, not all(...): each read of an audited column comes by here.
    for value in kept.values():
        if not (isinstance(value, int) or (isinstance(value, str) and len(value) <= MOST_TEXT)):
            return None
    return {"timestamp": moment, **kept}


class Rings:
    """All attached rings, and the ledger that takes their events. One call at a time: the caller holds a lock.

    `on_entry` hears of each entry that is on the disk.
    """

    def __init__(self, ledger: ReadLedger, on_entry: Callable[[Entry], None] = lambda _: None) -> None:
        self._ledger, self._on_entry = ledger, on_entry
        self._rings: set[SessionRing] = set()
        self._ended: set[SessionRing] = set()
        self._counted = 0.0
        # Tells whether a session wrote so much since the last time that its ring could be full at the next one.
        self.is_busy = False
        # By a clock that does not step. The first checkpoint is due at once.
        self._signed = float("-inf")
        # In seconds since 1970. None: there was no checkpoint yet.
        self.signed_at: float | None = None

    @property
    def count(self) -> int:
        return len(self._rings)

    def attach(self, descriptor: int, name: str, who: dict[str, Any], pid: int) -> SessionRing:
        """Takes a ring on. Raises BadInput, or Internal when the ledger cannot be written."""
        self._supersede(name)
        found = SessionRing(descriptor, name, who, pid, self._ledger)
        try:
            self._ledger.add([found.begins()])
            self._rings.add(found)
            self.drain(found)
        except BaseException:
            self._rings.discard(found)
            found.close()
            raise
        return found

    def detach(self, found: SessionRing) -> None:
        """Takes the last events of a session that ended. Raises Internal; then the next `drain` tries again."""
        if found in self._rings:
            self._ended.add(found)
            self.drain()

    def _supersede(self, name: str) -> None:
        """Ends what is known of a ring. A session brings its ring again when it lost the connection, and the end of
        that connection may be noticed later. Two that take from one ring would tell its events twice.
        """
        self._ended |= {known for known in self._rings if known.name == name}
        if self._ended:
            self.drain()

    def drain(self, whose: SessionRing | None = None, seq: int = 0) -> None:
        """Takes all new events, and now and then all counts and row keys: each time those of the session that asks.

        Raises Internal when the ledger cannot be written, and BadInput when the ring of the session that asks does not
        hold the events up to number `seq`.
        """
        if whose is None:
            self.is_busy = any(found.pending > BUSY_EVENTS for found in self._rings)
        now = time.monotonic()
        is_due = now >= self._counted + COUNT_SECONDS
        counted = self._rings if is_due else self._ended | ({whose} & self._rings)
        self._write([found for found in self._rings if found.pending or found in counted], counted)
        if is_due:
            self._counted = now
        for found in self._ended:
            self._rings.discard(found)
            found.close()
        self._ended.clear()
        if whose is not None and not whose.has_taken(seq):
            raise errors.BadInput("the ring does not hold what it must")

    def tell(self, name: str, **facts: object) -> None:
        """Adds an entry of the broker's own. Raises Internal when the ledger cannot be written."""
        self._ledger.add([event(name, **facts)])

    def is_checkpoint_due(self) -> bool:
        return time.monotonic() >= self._signed + CHECKPOINT_SECONDS

    def checkpoint(self) -> None:
        """Signs what is there. Raises Internal."""
        self._signed = time.monotonic() - CHECKPOINT_SECONDS + RETRY_SECONDS
        self.signed_at = float(self._ledger.checkpoint(time.time()).time)
        self._signed = time.monotonic()

    def close(self) -> None:
        """Takes what is left, and signs it. Sessions keep their rings, and attach them again to the next broker."""
        try:
            self._counted = 0.0
            self.drain()
            self.checkpoint()
        finally:
            self._ledger.close()

    def _write(self, rings: list[SessionRing], counted: Set[SessionRing | None]) -> None:
        whole = [found for found in rings if not found.is_broken]
        entries = [entry for found in whole for entry in self._entries(found, found in counted)]
        self._ledger.add(entries)
        for found in whole:
            found.acknowledge()
        for entry in entries:
            self._on_entry(entry)

    def _entries(self, found: SessionRing, is_counting: bool) -> list[Entry]:
        try:
            taken = found.take()
        except errors.BadInput:
            found.is_broken = True
            return [found.breaks()]
        return taken + (found.counts() if is_counting else []) + ([found.ends()] if found in self._ended else [])
