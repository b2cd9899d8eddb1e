"""Row keys of the ledger of reads: a session's own writer and the broker's rings, without the socket between them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pg_envelope import reads_check, ring
from pg_envelope.backend.read_facts import AuditedField
from pg_envelope.backend.ring_writer import RingWriter
from pg_envelope.broker.ledger.read_ledger import ReadLedger
from pg_envelope.broker.ledger.rings import Rings

LEVELS = ("row", "sync")
READS = 600


class Line:
    is_open = True

    def close(self) -> None:
        self.is_open = False


class Direct:
    """A link that asks the rings themselves."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._line: Line | None = None
        self.begin()

    def begin(self) -> None:
        """Begins the life of a broker."""
        self.rings = Rings(ReadLedger(self._path, "test"))

    def end(self) -> None:
        self.rings.close()
        if self._line is not None:
            self._line.close()

    def attach(self, descriptor: int, name: str) -> tuple[Line, dict[str, str]]:
        self._line = Line()
        self._attached = self.rings.attach(descriptor, name, {}, 1)
        return self._line, {"statement_key": ""}

    def ask_on(self, line: Line, op: str, **arguments: Any) -> dict[str, Any]:
        assert (line.is_open, op) == (True, "drain")
        self.rings.drain(self._attached, arguments["seq"])
        return {}


class Reader:
    """Reads row by row, and knows which row keys each event must have."""

    def __init__(self, path: Path, level: str) -> None:
        self.link = Direct(path)
        self._writer = RingWriter(self.link)  # type: ignore[arg-type]
        self._field = AuditedField("f", b"", level, {}, None, b"", 0)
        self.wanted: list[list[str]] = []

    def read(self) -> None:
        self.begin()
        self.go_on(0)

    def begin(self) -> None:
        self._writer.write(lambda *_: json.dumps({"time": 1, "user": "u"}).encode(), self._field, None)
        self.wanted.append([])

    def go_on(self, back: int) -> None:
        """Reads another value in an event that began so many events ago, if it still has its slot."""
        if back < min(len(self.wanted), ring.SLOTS):
            seq = len(self.wanted) - back
            key = f"{seq}.{len(self.wanted[seq - 1])}"
            self._writer.words[ring.slot(seq) + ring.COUNT] += 1
            self._writer.add_row(seq, key)
            self.wanted[seq - 1].append(key)


def found(path: Path) -> list[list[str]]:
    events = list(reads_check.events(path))
    assert [event["count"] for event in events] == [len(event["rows"]) for event in events]
    return [event["rows"] for event in events]


@pytest.mark.parametrize("level", LEVELS)
def test_each_of_many_reads_keeps_its_row_key(tmp_path: Path, level: str) -> None:
    tmp_path.chmod(0o700)
    reader = Reader(tmp_path / "reads.jsonl", level)
    for number in range(READS):
        reader.begin()
        if number % 50 == 0:
            # The broker looks before the value is read.
            reader.link.rings.drain()
        reader.go_on(0)
    reader.link.end()
    assert found(tmp_path / "reads.jsonl") == reader.wanted


def test_at_level_sync_count_and_row_keys_follow_the_event(tmp_path: Path) -> None:
    """What docs/ledger.md says is on the disk, should the machine stop."""
    tmp_path.chmod(0o700)
    reader = Reader(tmp_path / "reads.jsonl", "sync")
    for _ in range(2):
        reader.read()
    events = list(reads_check.events(tmp_path / "reads.jsonl"))
    assert [(event["count"], event.get("rows")) for event in events] == [(1, ["1.0"]), (0, None)]
    reader.link.end()
    assert found(tmp_path / "reads.jsonl") == reader.wanted


def test_a_row_key_that_comes_between_two_looks_is_told(tmp_path: Path) -> None:
    """The session counts first. A broker that looks then has the count, and not yet the row key."""
    tmp_path.chmod(0o700)
    rings = Rings(ReadLedger(tmp_path / "reads.jsonl", "test"))
    descriptor, memory = ring.create()
    words = ring.words(memory)
    attached = rings.attach(descriptor, ring.id_of(memory), {}, 1)
    ring.write(memory, words, 1, json.dumps({"time": 1}).encode())
    words[ring.slot(1) + ring.COUNT] = 1
    rings.drain(attached, 1)
    ring.add_row(memory, words, 1, b"7")
    rings.detach(attached)
    rings.close()
    assert found(tmp_path / "reads.jsonl") == [["7"]]


def test_a_later_count_without_row_keys_takes_none_away(tmp_path: Path) -> None:
    path = tmp_path / "reads.jsonl"
    about = {"ring": "r", "seq": 1}
    lines = [
        {"event": "read", **about, "count": 0},
        {"event": "count", **about, "count": 1, "rows": ["7"]},
        {"event": "count", **about, "count": 2},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (event,) = reads_check.events(path)
    assert (event["count"], event["rows"]) == (2, ["7"])


ACTS = st.one_of(
    st.integers(1, 300).map(lambda times: ("read", times)),
    st.integers(0, ring.SLOTS).map(lambda back: ("go on", back)),
    st.sampled_from([("drain", 0), ("restart", 0)]),
)


@settings(max_examples=40, deadline=None)
@given(level=st.sampled_from(LEVELS), acts=st.lists(ACTS, max_size=12))
@example(level="row", acts=[("read", 1), ("drain", 0), ("read", 255), ("drain", 0), ("go on", 255), ("read", 1)])
@example(level="row", acts=[("read", 200), ("restart", 0), ("go on", 150), ("read", 300)])
def test_in_any_order_no_row_key_is_lost(level: str, acts: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reads.jsonl"
        reader = Reader(path, level)
        for act, number in acts:
            if act == "read":
                for _ in range(number):
                    reader.read()
            elif act == "go on":
                reader.go_on(number)
            elif act == "drain":
                reader.link.rings.drain()
            else:
                reader.link.end()
                reader.link.begin()
        # What a session reads in old events, it hands to a new broker with its next event.
        reader.read()
        reader.link.end()
        assert found(path) == reader.wanted
