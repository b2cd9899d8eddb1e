"""The ledger of reads: what a thief of the file or of the key can change without being found, which is nothing."""

from __future__ import annotations

import base64
import json
import resource
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pg_envelope import errors, merkle, reads_check, ring
from pg_envelope.broker.ledger.read_ledger import ReadLedger
from pg_envelope.broker.ledger.rings import BUSY_EVENTS, Rings
from pg_envelope.checkpoints import PublicKey

WHO = {"database": "d", "client": "10.0.0.1"}
LINES = 12


class Session:
    """A session's half of a ring."""

    def __init__(self) -> None:
        self.descriptor, self.memory = ring.create()
        self.words = ring.words(self.memory)
        self.seq = 0

    def read(self, count: int = 1, **facts: Any) -> None:
        self.seq += 1
        body = {"time": 1_700_000_000_000_000 + self.seq, "user": "alice", "column": "email", **facts}
        ring.write(self.memory, self.words, self.seq, json.dumps(body).encode())
        self.words[ring.slot(self.seq) + ring.COUNT] = count

    def attach(self, rings: Rings, pid: int = 1) -> Any:
        return rings.attach(self.descriptor, ring.id_of(self.memory), WHO, pid)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path / "reads.jsonl"


def opened(path: Path, anchor: Path | str | None = None) -> tuple[ReadLedger, Rings]:
    ledger = ReadLedger(path, "test", str(anchor or ""))
    return ledger, Rings(ledger)


def written(path: Path, anchor: Path | str | None = None, reads: int = LINES) -> PublicKey:
    """A ledger with some reads and two checkpoints, closed."""
    ledger, rings = opened(path, anchor)
    session = Session()
    attached = session.attach(rings)
    for number in range(reads):
        session.read(number)
        if number == reads // 2:
            rings.drain()
            rings.checkpoint()
    rings.detach(attached)
    rings.close()
    return ledger.public


def checked(path: Path, public: PublicKey, *anchors: Path) -> reads_check.Checked:
    return reads_check.check(path, public, anchors)


def test_a_whole_ledger_holds(path: Path, tmp_path: Path) -> None:
    anchor = tmp_path / "anchor"
    public = written(path, anchor)
    found = checked(path, public, anchor)
    assert found.problems == []
    assert (found.events, found.lines, found.signed, found.anchored) == (LINES, LINES + 2, LINES + 2, LINES + 2)
    assert [event["count"] for event in reads_check.events(path)] == list(range(LINES))


def test_the_public_key_is_beside_it_and_reads_back(path: Path) -> None:
    public = written(path)
    assert PublicKey.parse(path.with_name("reads.jsonl.pub").read_text()) == public


@pytest.mark.parametrize("text", ["", "a", "a+b+c", "test+00000000+AQ==", "pg_envelope/test+" + "0" * 8 + "+AAAA"])
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(errors.BadInput):
        PublicKey.parse(text)


Change = Callable[[list[bytes]], list[bytes]]
CHANGES: dict[str, Change] = {
    "a line is gone": lambda lines: lines[:3] + lines[4:],
    "the last line is gone": lambda lines: lines[:-1],
    "all lines are gone": lambda lines: [],
    "two lines have changed places": lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]],
    "a line came twice": lambda lines: [*lines[:4], lines[3], *lines[4:]],
    "a name was changed": lambda lines: [line.replace(b"alice", b"bobby") for line in lines],
    "a count was changed": lambda lines: [line.replace(b'"count":7', b'"count":1') for line in lines],
    "a line is no JSON": lambda lines: [*lines[:3], b"x\n", *lines[4:]],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_ledger_is_found(path: Path, change: Change) -> None:
    public = written(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(change(lines)))
    assert checked(path, public).problems
    with pytest.raises(errors.NotConfigured, match="ledger of reads is broken"):
        ReadLedger(path, "test")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_is_found(path: Path, data: st.DataObject) -> None:
    if not path.exists():
        written(path)
    public = PublicKey.parse(path.with_name("reads.jsonl.pub").read_text())
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[at]))
    path.write_bytes(whole[:at] + bytes((byte,)) + whole[at + 1 :])
    try:
        assert checked(path, public).problems
    finally:
        path.write_bytes(whole)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_of_a_checkpoint_is_found(path: Path, data: st.DataObject) -> None:
    """But for the white space behind a note: it says nothing."""
    if not path.exists():
        written(path)
    public = PublicKey.parse(path.with_name("reads.jsonl.pub").read_text())
    file = reads_check.checkpoints_path(path)
    whole = file.read_bytes()
    end = len(whole.rstrip())
    at = data.draw(st.integers(0, end - 1))
    byte = data.draw(st.integers(32, 126).filter(lambda byte: byte != whole[at]))
    file.write_bytes(whole[:at] + bytes((byte,)) + whole[at + 1 :])
    try:
        found = _problems_or_unreadable(path, public)
        assert found or _fewer_notes(path, public)
    finally:
        file.write_bytes(whole)


def _problems_or_unreadable(path: Path, public: PublicKey) -> bool:
    try:
        return bool(checked(path, public).problems)
    except UnicodeDecodeError:
        return True


def _fewer_notes(path: Path, public: PublicKey) -> bool:
    return checked(path, public).checkpoints < 2


def test_a_ledger_that_was_cut_with_its_checkpoints_is_found_against_an_anchor(path: Path, tmp_path: Path) -> None:
    anchor = tmp_path / "anchor"
    public = written(path, anchor)
    lines = path.read_bytes().splitlines(keepends=True)
    notes = reads_check.checkpoints_path(path)
    first = notes.read_text().split("\n\npg_envelope")[0] + "\n\n"
    signed = int(first.splitlines()[1])
    path.write_bytes(b"".join(lines[:signed]))
    notes.write_text(first)
    assert checked(path, public).problems == [], "the key's owner can do this unseen, without an anchor"
    assert checked(path, public, anchor).problems


@contextmanager
def syslog(folder: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    """A syslog: the setting that names it, and what gives the file that it has written so far."""
    address = str(folder / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        receiver.setblocking(False)
        lines: list[str] = []

        def received() -> str:
            with suppress(BlockingIOError):
                while True:
                    lines.append("Nov 26 21:00:00 host " + receiver.recv(65536).decode())
            return "\n".join(lines) + "\n"

        yield f"syslog:{address}", received


def test_syslog_is_an_anchor(path: Path, tmp_path: Path) -> None:
    with syslog(tmp_path) as (setting, received):
        public = written(path, setting)
        log = tmp_path / "messages"
        log.write_text(received())
    assert log.read_text().count("<85>pg-envelope: pg_envelope checkpoint ") == 2
    found = checked(path, public, log)
    assert (found.problems, found.anchored) == ([], LINES + 2)
    cut = path.read_bytes().splitlines(keepends=True)[:3]
    path.write_bytes(b"".join(cut))
    reads_check.checkpoints_path(path).unlink()
    assert checked(path, public).problems == []
    assert checked(path, public, log).problems


@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([b"\xff\xfe", b"AAAA", b"", "\u2014".encode()]))))
def test_forged_lines_of_syslog_do_no_harm(junk: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tmp_path = Path(folder)
        with syslog(tmp_path) as (setting, received):
            public = written(tmp_path / "reads.jsonl", setting, 1)
            honest = received().encode()
        forged = [b"x pg_envelope checkpoint " + base64.b64encode(one) + b"\n" for one in junk]
        raw = [b"x pg_envelope checkpoint " + one + b"\n" for one in junk]
        log = tmp_path / "messages"
        log.write_bytes(b"".join([*forged, honest, *raw]))
        found = checked(tmp_path / "reads.jsonl", public, log)
    assert (found.problems, found.anchored) == ([], 3)


def test_without_syslog_no_checkpoint_is_made_in_silence(path: Path, tmp_path: Path) -> None:
    ledger = ReadLedger(path, "test", f"syslog:{tmp_path / 'nobody'}")
    with pytest.raises(errors.Internal, match="cannot write to syslog"):
        ledger.checkpoint(0)
    ledger.close()


def test_a_ledger_that_was_written_anew_with_the_stolen_key_is_found_against_an_anchor(
    path: Path, tmp_path: Path
) -> None:
    anchor, forged = tmp_path / "anchor", tmp_path / "forged"
    public = written(path, anchor)
    forged.mkdir(mode=0o700)
    shutil.copy(path.with_name("reads.jsonl.key"), forged / "reads.jsonl.key")
    (forged / "reads.jsonl").touch(mode=0o600)
    assert written(forged / "reads.jsonl", reads=LINES + 3) == public
    assert checked(forged / "reads.jsonl", public).problems == [], "with the key everything can be signed"
    assert checked(forged / "reads.jsonl", public, anchor).problems


def test_a_new_ledger_may_keep_the_anchor_of_an_old_one(path: Path, tmp_path: Path) -> None:
    anchor = tmp_path / "anchor"
    old = written(path, anchor)
    kept = tmp_path / "kept"
    kept.mkdir()
    for file in tmp_path.glob("reads.jsonl*"):
        file.rename(kept / file.name)
    new = written(path, anchor, LINES + 3)
    for ledger, public, other, lines in ((path, new, old, LINES + 5), (kept / path.name, old, new, LINES + 2)):
        found = checked(ledger, public, anchor)
        assert (found.problems, found.anchored, found.passed_over) == ([], lines, {other.id.hex(): 2})
    reads_check.checkpoints_path(path).write_text(anchor.read_text())
    assert checked(path, new).problems, "beside the ledger each checkpoint is its own"


def test_another_key_or_environment_is_found(path: Path, tmp_path: Path) -> None:
    written(path)
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    public = written(other / "reads.jsonl")
    assert checked(path, public).problems
    with pytest.raises(errors.NotConfigured, match="checkpoint does not hold"):
        ReadLedger(path, "other")


def test_a_busy_session_is_seen(path: Path) -> None:
    """The recorder comes by sooner then, so that the session need not wait for room. What a session asks for by itself
    says nothing.
    """
    ledger, rings = opened(path)
    session = Session()
    attached = session.attach(rings)
    seen = []
    for count in (BUSY_EVENTS + 1, BUSY_EVENTS, 0):
        for number in range(count):
            session.read(number)
        rings.drain()
        seen.append(rings.is_busy)
    for number in range(BUSY_EVENTS + 1):
        session.read(number)
    rings.drain(attached, session.seq)
    assert (seen, rings.is_busy) == ([True, False, False], False)
    ledger.close()


def test_missing_events_of_a_session_are_found(path: Path) -> None:
    ledger, rings = opened(path)
    session = Session()
    session.attach(rings)
    session.seq = 3
    session.words[ring.PUBLISHED] = 3
    session.read()
    rings.drain()
    rings.close()
    assert any("cannot be read" in problem for problem in checked(path, ledger.public).problems)


@contextmanager
def no_file_may_grow_beyond(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_loses_no_event_and_tells_none_twice(path: Path) -> None:
    ledger, rings = opened(path)
    session = Session()
    attached = session.attach(rings)
    session.read(3)
    rings.drain()
    session.read(4)
    with no_file_may_grow_beyond(path.stat().st_size + 10):
        for _ in range(2):
            with pytest.raises(errors.Internal):
                rings.drain(attached, 2)
            assert session.words[ring.TAKEN] == 1, "the session must not take the slot again"
        with pytest.raises(errors.Internal):
            rings.detach(attached)
    rings.drain()
    rings.close()
    assert [event["count"] for event in reads_check.events(path)] == [3, 4]
    assert checked(path, ledger.public).problems == []
    assert checked(path, ledger.public).open_rings == 0


def test_a_broker_that_was_killed_before_it_acknowledged_tells_no_event_twice(path: Path) -> None:
    ledger, rings = opened(path)
    session = Session()
    session.attach(rings)
    for number in range(5):
        session.read(number)
    rings.drain()
    session.words[ring.TAKEN] = 2
    ledger.close()
    ledger, rings = opened(path)
    session.words[ring.slot(3) + ring.COUNT] = 9
    attached = session.attach(rings)
    session.read(7)
    rings.detach(attached)
    rings.close()
    assert [event["count"] for event in reads_check.events(path)] == [0, 1, 9, 3, 4, 7]
    assert checked(path, ledger.public).problems == []


def test_a_line_that_a_crash_cut_off_is_taken_off(path: Path) -> None:
    public = written(path)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"event":"read","ti')
    ledger = ReadLedger(path, "test")
    assert ledger.cut == 19
    ledger.close()
    assert path.read_bytes() == whole
    assert checked(path, public).problems == []


def test_slots_that_are_taken_again_keep_their_counts(path: Path) -> None:
    _, rings = opened(path)
    session = Session()
    attached = session.attach(rings)
    total = 3 * ring.SLOTS + 7
    for number in range(total):
        session.read(0)
        if number % 50 == 0:
            rings.drain()
        # The count grows after the event was taken.
        session.words[ring.slot(session.seq) + ring.COUNT] = number
    rings.detach(attached)
    rings.close()
    assert [event["count"] for event in reads_check.events(path)] == list(range(total))


BODIES = st.one_of(
    st.binary(max_size=200),
    st.dictionaries(st.text(max_size=9), st.integers(), max_size=9).map(lambda found: json.dumps(found).encode()),
    st.fixed_dictionaries(
        {"time": st.integers() | st.floats() | st.none(), "user": st.text(max_size=9) | st.none()}
    ).map(lambda found: json.dumps(found).encode()),
)


@settings(max_examples=50)
@given(published=st.integers(0, 2**64 - 1) | st.integers(0, 300), body=BODIES)
def test_nonsense_in_a_ring_harms_its_own_session_only(published: int, body: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "reads.jsonl"
        ledger, rings = opened(path)
        good, bad = Session(), Session()
        held = good.attach(rings), bad.attach(rings)
        ring.write(bad.memory, bad.words, 1, body)
        bad.words[ring.PUBLISHED] = published
        for seq in (1, 2):
            good.read(seq)
            rings.drain(held[0], seq)
        for found in held:
            rings.detach(found)
        rings.close()
        own = [event["count"] for event in reads_check.events(path) if event["ring"] == ring.id_of(good.memory)]
        assert own == [1, 2]
        problems = checked(path, ledger.public).problems
        assert all(ring.id_of(bad.memory) in problem for problem in problems)


@given(st.lists(st.binary(max_size=8), max_size=40))
def test_the_root_is_rfc_9162_s(lines: list[bytes]) -> None:
    """By the recursive definition of section 2.1.1, which is not how Tree computes it."""
    tree = merkle.Tree()
    for line in lines:
        tree.add(line)
    assert tree.root() == defined(lines)


def defined(lines: list[bytes]) -> bytes:
    if not lines:
        return merkle.EMPTY
    if len(lines) == 1:
        return merkle.leaf(lines[0])
    half = 1 << (len(lines) - 1).bit_length() - 1
    return merkle.node(defined(lines[:half]), defined(lines[half:]))


@given(acts=st.lists(st.sampled_from(["read", "read", "drain", "again", "end"]), max_size=30))
def test_a_ring_that_comes_again_before_its_end_is_noticed_is_told_once(acts: list[str]) -> None:
    """A session brings its ring on a new connection; the broker hears of the end of the old ones at some time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reads.jsonl"
        ledger, rings = opened(path)
        session = Session()
        attached = [session.attach(rings)]
        for act in acts:
            if act == "read":
                session.read()
            elif act == "drain":
                rings.drain()
            elif act == "again":
                attached.append(session.attach(rings))
            elif len(attached) > 1:
                rings.detach(attached.pop(0))
        for one in attached:
            rings.detach(one)
        rings.close()
        assert checked(path, ledger.public).problems == []
        lines = map(json.loads, path.read_text().splitlines())
        assert [line["seq"] for line in lines if line["event"] == "read"] == list(range(1, session.seq + 1))
