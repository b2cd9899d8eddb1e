"""Checks a copy of the ledger of reads with its public key: FORMAT.md section 11. Needs no broker and no database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pg_envelope import errors, merkle
from pg_envelope.checkpoints import Checkpoint, PublicKey, key_id, logged, notes, opened
from pg_envelope.records import dataclass, field
from pg_envelope.typed import Any

Entry = dict[str, Any]
MOST_SHOWN = 20


@dataclass
class Checked:
    """The result of a check. `lines` are those of the file, `signed` those that a checkpoint covers.

    `open_rings` are sessions whose end is not in the ledger: they run still, or ended together with their broker.
    `anchored_at` is the time of the anchors' largest checkpoint, in seconds since 1970. `passed_over` has how many
    checkpoints of other keys are in the anchors, by key id: other ledgers went there, too.
    """

    lines: int = 0
    signed: int = 0
    events: int = 0
    checkpoints: int = 0
    anchored: int = 0
    anchored_at: int | None = None
    open_rings: int = 0
    passed_over: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def wrong(self, problem: str) -> None:
        if len(self.problems) < MOST_SHOWN:
            self.problems.append(problem)


def checkpoints_path(ledger: Path) -> Path:
    """Returns the file of checkpoints beside a ledger."""
    return ledger.with_name(ledger.name + ".checkpoints")


def check(ledger: Path, public: PublicKey, anchors: Sequence[Path] = ()) -> Checked:
    """Compares lines, checkpoints and anchors. Raises OSError for a file that cannot be read."""
    found = Checked()
    wanted: dict[int, list[tuple[bytes, str]]] = {}
    own = checkpoints_path(ledger)
    if own.exists():
        content = own.read_text(errors="replace")
        listed = _collect(own, notes(content), (), public, wanted, found)
        found.checkpoints, found.signed = len(listed), max((one.size for one in listed), default=0)
    anchored: list[Checkpoint] = []
    for anchor in anchors:
        content = anchor.read_text(errors="replace")
        anchored += _collect(anchor, _own(content, public, found), logged(content, public), public, wanted, found)
    found.anchored, found.anchored_at = max(((one.size, one.time) for one in anchored), default=(0, None))
    _compare(ledger, wanted, found)
    return found


def _own(content: str, public: PublicKey, found: Checked) -> Iterator[str]:
    """Yields the notes of an anchor but for those of other keys: a new ledger has a key of its own."""
    for note in notes(content):
        other = key_id(note)
        if other in (None, public.id.hex()):
            yield note
        else:
            found.passed_over[str(other)] = found.passed_over.get(str(other), 0) + 1


def _collect(
    path: Path,
    given: Iterable[str],
    more: Iterable[Checkpoint],
    public: PublicKey,
    wanted: dict[int, list[tuple[bytes, str]]],
    found: Checked,
) -> list[Checkpoint]:
    """Adds the roots that a file of checkpoints states. Returns these checkpoints."""
    listed: list[Checkpoint] = []
    for number, note in enumerate(given, 1):
        try:
            listed.append(opened(note, public))
        except errors.BadInput as error:
            found.wrong(f"{path.name}, note {number}: {error.message}")
    listed += more
    for checkpoint in listed:
        wanted.setdefault(checkpoint.size, []).append((checkpoint.root, path.name))
    sizes = [checkpoint.size for checkpoint in listed]
    if sizes != sorted(sizes):
        found.wrong(f"{path.name}: a checkpoint has fewer lines than one before it")
    return listed


def _compare(ledger: Path, wanted: dict[int, list[tuple[bytes, str]]], found: Checked) -> None:
    tree, rings = merkle.Tree(), _Sequences(found)
    _compare_root(tree, wanted, found)
    for line, entry in lines(ledger):
        tree.add(line)
        rings.note(tree.size, entry)
        _compare_root(tree, wanted, found)
    found.lines, found.open_rings = tree.size, len(rings.open)
    for size in sorted(size for size in wanted if size > tree.size):
        found.wrong(f"the ledger has {tree.size} lines, and {wanted[size][0][1]} has a checkpoint of {size}")


def _compare_root(tree: merkle.Tree, wanted: dict[int, list[tuple[bytes, str]]], found: Checked) -> None:
    stated = wanted.get(tree.size, ())
    root = tree.root() if stated else b""
    for other, name in stated:
        if other != root:
            found.wrong(f"the first {tree.size} lines are not those of a checkpoint in {name}")


class _Sequences:
    """Each session numbers its events from 1, so a missing one is seen."""

    def __init__(self, found: Checked) -> None:
        self._found = found
        self._last: dict[str, int] = {}
        self.open: set[str] = set()

    def note(self, number: int, entry: Entry) -> None:
        kind, ring, seq = entry.get("event"), str(entry.get("ring")), entry.get("seq")
        last = self._last.get(ring, 0)
        if kind == "attached":
            self.open.add(ring)
        if kind == "ended":
            self.open.discard(ring)
        if kind == "read":
            self._found.events += 1
        if kind in ("read", "damaged"):
            self._last[ring] = seq if isinstance(seq, int) else last
            last += 1
        if kind == "damaged":
            self._found.wrong(f"line {number}: the session of ring {ring} wrote an event that cannot be read")
        if kind in ("read", "damaged", "attached", "ended") and seq != last:
            self._found.wrong(f"line {number}: ring {ring} has event {seq} where {last} is due: events are missing")


def lines(ledger: Path) -> Iterator[tuple[bytes, Entry]]:
    """Yields each whole line, and its entry: {} for a line that is none."""
    with open(ledger, "rb") as file:
        for raw in file:
            if not raw.endswith(b"\n"):
                return
            line = raw.removesuffix(b"\n")
            try:
                entry = json.loads(line)
            except ValueError:
                entry = {}
            yield line, entry if isinstance(entry, dict) else {}


def events(ledger: Path) -> Iterator[Entry]:
    """Yields the reads with their last counts. It reads the file twice, because a count can come much later."""
    counts: dict[tuple[Any, Any], Entry] = {}
    for _, entry in lines(ledger):
        if entry.get("event") == "count" and "ring" in entry and "seq" in entry:
            # A count without row keys takes nothing away from one that had them.
            later: Entry = {name: entry[name] for name in ("count", "rows") if name in entry}
            counts.setdefault((entry["ring"], entry["seq"]), {}).update(later)
    for _, entry in lines(ledger):
        if entry.get("event") == "read":
            yield {**entry, **counts.get((entry.get("ring"), entry.get("seq")), {})}
