"""Owns the session's ring and its connection to the broker: FORMAT.md section 11.1."""

from __future__ import annotations

from collections.abc import Callable

from pg_envelope import errors, ring, wire
from pg_envelope.backend.link import Line, Link
from pg_envelope.backend.read_facts import AuditedField

# ReadFacts.body: makes the body of an event, of the key that hashes statements.
MakeBody = Callable[[AuditedField, int | None, bytes], bytes]


class RingWriter:
    """The ring stays for the session's life. The connection ends with a broker, and the next broker gets the ring."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._descriptor, self._memory = ring.create()
        self.words = ring.words(self._memory)
        self.seq = 0
        self._line: Line | None = None
        self._statement_key = b""
        # Events that have had row keys since the broker last had all of them.
        self._late: set[int] = set()

    def write(self, body: MakeBody, found: AuditedField, continues: int | None) -> int:
        """Writes an event of a column. Returns its number once the broker has it, or at level sync has it on its disk.

        `continues` is the number of an event before it. Raises Unavailable.
        """
        line = self._line or self._attach()
        if not self._is_free(self.seq + 1 - ring.SLOTS):
            line = line if line.is_open else self._attach()
            self._drain(line)
        ring.write(self._memory, self.words, self.seq + 1, body(found, continues, self._statement_key))
        self.seq += 1
        # Not before: a broker that ends takes what was written while its connection was open.
        if not line.is_open:
            line = self._attach()
        if found.level == "sync":
            self._drain(line)
        return self.seq

    def ask(self, line: Line | None, op: str, **arguments: object) -> wire.Message:
        """Returns the broker's answer, on the connection of the ring. Raises what Link.ask raises."""
        try:
            return self._link.ask_on(line or self._line or self._attach(), op, **arguments)
        except BaseException:
            # The answer may still come, and would be taken for another one's.
            self._leave()
            raise

    def add_row(self, seq: int, row_key: str) -> None:
        ring.add_row(self._memory, self.words, seq, row_key.encode())
        self._late.add(seq)

    def _is_free(self, seq: int) -> bool:
        """Tells whether nothing is lost when a new event takes the slot of this one. The count stays there."""
        return seq <= self.words[ring.TAKEN] and seq not in self._late

    def _attach(self) -> Line:
        """Brings the ring to the broker, with the events that no broker has taken yet."""
        self._leave()
        self._line, answer = self._link.attach(self._descriptor, ring.id_of(self._memory))
        self._statement_key = wire.from_base64(answer["statement_key"])
        return self._line

    def _drain(self, line: Line) -> None:
        """Waits until the broker has all events and row keys. Raises Unavailable: then no value may be read."""
        self.ask(line, "drain", seq=self.seq)
        if self.seq != self.words[ring.TAKEN]:
            raise errors.Unavailable("the broker did not take the events of this session's reads")
        self._late.clear()

    def _leave(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.close()
