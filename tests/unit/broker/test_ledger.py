"""The ledger of erasures: what it refuses, what a crash may leave of it, and that it is read quickly."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pg_envelope import errors
from pg_envelope.broker.ledger.erasures import DyingDek, Erasures
from pg_envelope.broker.ledger.ledger import Ledger

DATABASE = uuid.UUID(int=7)
FACTS = {"time": "2026-01-01T00:00:00+00:00", "who": {"role": "dpo"}, "label": "t", "subject": None, "salt": None}


def dying(dek_id: int, mark: int = 1) -> DyingDek:
    return DyingDek(dek_id, bytes([mark]) * 16, "default", "catalog", 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path / "erasures.jsonl"


def written(path: Path, count: int = 3) -> bytes:
    """A ledger that killed DEKs 1 … count, one an entry; its bytes."""
    erasures = Erasures(path)
    for dek_id in range(1, count + 1):
        erasures.add(DATABASE, [dying(dek_id)], {**FACTS, "reason": "r"})
    erasures.close()
    return path.read_bytes()


def dead(path: Path) -> list[int]:
    erasures = Erasures(path)
    found = [dek_id for dek_id in range(1, 10) if erasures.dead(DATABASE, dek_id, bytes([1]) * 16)]
    erasures.close()
    return found


def refusal(path: Path) -> str:
    with pytest.raises(errors.NotConfigured) as caught:
        Erasures(path)
    return caught.value.message


def test_what_it_says_outlives_the_process(path: Path) -> None:
    assert json.loads(written(path).splitlines()[1])["n"] == 2
    assert dead(path) == [1, 2, 3]
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in path.parent.iterdir())


def test_another_dek_of_the_same_id_lives(path: Path) -> None:
    """Two clones of a database make DEKs of the same id in store catalog."""
    erasures = Erasures(path)
    erasures.add(DATABASE, [dying(1)], {**FACTS, "reason": "r"})
    assert erasures.knows(DATABASE, 1)
    assert not erasures.dead(DATABASE, 1, bytes(16))
    assert not erasures.dead(uuid.UUID(int=8), 1, bytes([1]) * 16)
    erasures.add(DATABASE, [dying(1, 0), dying(2)], {**FACTS, "reason": "r"})
    for _ in range(2):
        assert erasures.dead(DATABASE, 1, bytes(16))
        assert erasures.dead(DATABASE, 1, bytes([1]) * 16)
        assert erasures.count(DATABASE) == 3
        erasures.close()
        erasures = Erasures(path)
    erasures.close()


def test_a_line_cut_off_anywhere_is_recovered(path: Path) -> None:
    whole = written(path)
    last = whole.splitlines(keepends=True)[-1]
    for length in range(1, len(last)):
        path.write_bytes(whole[: -len(last)] + last[:length])
        assert dead(path) == [1, 2]
        assert path.read_bytes() == whole[: -len(last)]


def test_blocks_that_were_never_written_are_recovered(path: Path) -> None:
    whole = written(path)
    last = whole.splitlines(keepends=True)[-1]
    for torn in (bytes(len(last)), bytes(100) + last[100:], last[:100] + bytes(len(last) - 100)):
        path.write_bytes(whole[: -len(last)] + torn)
        assert dead(path) == [1, 2]
    path.write_bytes(bytes(50))
    assert dead(path) == []


def test_after_a_recovery_it_goes_on(path: Path) -> None:
    whole = written(path)
    path.write_bytes(whole + b'{"v":1,"n":4,')
    erasures = Erasures(path)
    assert erasures.cut == 13
    erasures.add(DATABASE, [dying(4)], {**FACTS, "reason": "r"})
    erasures.close()
    assert dead(path) == [1, 2, 3, 4]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_line_that_was_changed_is_named(path: Path, number: int) -> None:
    lines = written(path).splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace(b'"reason":"r"', b'"reason":"s"')
    path.write_bytes(b"".join(lines))
    assert f"line {number}:" in refusal(path)


@pytest.mark.parametrize("number", [1, 2])
def test_a_line_that_is_missing_is_noticed(path: Path, number: int) -> None:
    lines = written(path).splitlines(keepends=True)
    del lines[number - 1]
    path.write_bytes(b"".join(lines))
    assert f"line {number}:" in refusal(path)


@pytest.mark.parametrize("garbage", [b"\n", b"[]\n", b'{"v":2}\n', b"\xff\n", b'{"v":1,"n":4,"previous":"x"}\n'])
def test_a_whole_line_that_is_none_of_ours_is_refused(path: Path, garbage: bytes) -> None:
    path.write_bytes(written(path) + garbage)
    assert "broken" in refusal(path)


def test_a_forged_entry_is_refused(path: Path, tmp_path: Path) -> None:
    """One that is chained well, but signed by another key: it would kill, or hide that nothing was killed."""
    own = written(path)
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    forged = other / "erasures.jsonl"
    written(forged, 1)
    forged.write_bytes(own)
    forged_key = forged.with_name("erasures.jsonl.key")
    own_key = path.with_name("erasures.jsonl.key")
    assert "line 3: its signature" in refusal(forged)
    seed = forged_key.read_bytes()
    forged_key.write_bytes(own_key.read_bytes())
    ledger = Ledger(forged)
    list(ledger.load())
    ledger._held.key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed.decode()))
    ledger.add({"database": str(DATABASE), "deks": [[9, "09" * 16, "k", "catalog", 1]]})
    ledger.close()
    path.write_bytes(forged.read_bytes())
    assert "line 4: its signature" in refusal(path)


@pytest.mark.parametrize("missing", ["erasures.jsonl", "erasures.jsonl.key"])
def test_a_part_that_was_removed_is_missed(path: Path, missing: str) -> None:
    written(path)
    path.with_name(missing).unlink()
    assert "or its key is missing" in refusal(path)


def test_a_start_that_was_cut_off_is_begun_again(path: Path) -> None:
    draft = path.with_name("erasures.jsonl.key.new")
    for files in ([draft], [draft, path]):
        for file in files:
            file.touch(mode=0o600)
        assert dead(path) == []
        assert not draft.exists()
        for file in path.parent.iterdir():
            file.unlink()


def test_one_process_holds_it(path: Path) -> None:
    first = Erasures(path)
    assert "another broker runs" in refusal(path)
    first.close()
    assert dead(path) == []


def test_a_file_that_others_can_read_is_refused(path: Path) -> None:
    written(path)
    path.chmod(0o640)
    assert "open to others" in refusal(path)


def test_a_disk_that_is_full_leaves_it_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(path)
    erasures = Erasures(path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(errors.Internal):
            erasures.add(DATABASE, [dying(4)], {**FACTS, "reason": "r"})
    assert not erasures.knows(DATABASE, 4)
    erasures.add(DATABASE, [dying(5)], {**FACTS, "reason": "r"})
    erasures.close()
    assert dead(path) == [1, 2, 3, 5]


def test_a_running_ledger_that_is_changed_fails_its_verification(path: Path) -> None:
    written(path)
    erasures = Erasures(path)
    erasures.verify()
    erasures.add(DATABASE, [dying(4)], {**FACTS, "reason": "r"})
    erasures.verify()
    content = path.read_bytes()
    erasures.add(DATABASE, [dying(5)], {**FACTS, "reason": "r"})
    path.write_bytes(content)
    with pytest.raises(errors.NotConfigured):
        erasures.verify()
    erasures.close()


def test_pages_fit_into_a_response(path: Path) -> None:
    erasures = Erasures(path)
    for start in range(1, 12_001, 1000):
        erasures.add(DATABASE, [dying(start + i) for i in range(1000)], {**FACTS, "reason": "é" * 4000})
    seen = 0
    while page := erasures.page(DATABASE, seen, 500):
        assert len(page) < 10
        seen += len(page)
    assert seen == 12
    assert erasures.page(uuid.UUID(int=8), 0, 5) == []
    erasures.close()
