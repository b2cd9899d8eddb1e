"""The recorder itself, without a session: when it signs, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from pg_envelope import reads_check
from pg_envelope.broker.ledger import recorder
from pg_envelope.broker.ledger import rings as rings_module
from pg_envelope.broker.ledger.rings import CHECKPOINT_SECONDS, RETRY_SECONDS
from pg_envelope.broker.ledger.tally import Tally
from pg_envelope.broker.settings.config import BrokerSettings
from pg_envelope.broker.watch.metrics import VALUE_LABELS, Counter
from pg_envelope.checkpoints import PublicKey, notes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path / "reads.jsonl"


def made(path: Path, anchor: str = "") -> recorder.ReadRecorder:
    tally = Tally(Counter("events", "text", "database", "column"), Counter("values", "text", *VALUE_LABELS))
    return recorder.ReadRecorder(BrokerSettings(reads=str(path), environment="test", reads_anchor=anchor), tally)


class Clock:
    """Stands in the place of the module time: `monotonic` stays where it is until somebody moves it."""

    def __init__(self) -> None:
        self.seconds, self.asked = 1000.0, 0
        self.time = time.time

    def monotonic(self) -> float:
        self.asked += 1
        return self.seconds

    async def passes(self) -> None:
        """Returns when the recorder has come by since. It asks for the time at most four times each time."""
        before = self.asked
        while self.asked < before + 9:
            await asyncio.sleep(0.001)


def test_an_idle_broker_signs_a_checkpoint_every_five_minutes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorder itself, without a session: each checkpoint says once more that there are as many lines as before."""
    clock = Clock()
    monkeypatch.setattr(rings_module, "time", clock)
    monkeypatch.setattr(recorder, "DRAIN_SECONDS", 0.001)
    recording = made(path)
    file = reads_check.checkpoints_path(path)

    async def signed_after(*steps: float) -> list[int]:
        task = asyncio.ensure_future(recording.run())
        found = []
        for step in steps:
            clock.seconds += step
            await asyncio.wait_for(clock.passes(), 30)
            found.append(len(list(notes(file.read_text()))))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await recording.close()
        return found

    assert CHECKPOINT_SECONDS == 300
    assert asyncio.run(signed_after(0, 299, 2, 150, 149, 1, 300)) == [1, 1, 2, 2, 2, 3, 4]
    public = PublicKey.parse(path.with_name("reads.jsonl.pub").read_text())
    found = reads_check.check(path, public)
    assert (found.problems, found.lines, found.checkpoints) == ([], 0, 5)


def test_an_anchor_that_cannot_be_reached_stops_no_read_and_is_said_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    monkeypatch.setattr(rings_module, "time", clock)
    monkeypatch.setattr(recorder, "DRAIN_SECONDS", 0.001)
    caplog.set_level(logging.INFO)
    folder = path.parent / "elsewhere"
    before = time.time()
    recording = made(path, str(folder / "anchor"))
    began = recording.signed_or_began_at
    assert before <= began <= time.time()

    async def lived() -> None:
        task = asyncio.ensure_future(recording.run())
        for step in (0, RETRY_SECONDS, RETRY_SECONDS):
            clock.seconds += step
            await asyncio.wait_for(clock.passes(), 30)
            assert recording.trouble is None, "reads go on"
            assert recording.unsigned is not None
            assert (recording.signed_at, recording.signed_or_began_at) == (None, began)
        folder.mkdir()
        clock.seconds += RETRY_SECONDS
        await asyncio.wait_for(clock.passes(), 30)
        assert recording.unsigned is None
        assert recording.signed_at is not None
        assert recording.signed_at == recording.signed_or_began_at
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await recording.close()

    asyncio.run(lived())
    said = [record.getMessage() for record in caplog.records if record.name == recorder.__name__]
    assert [text.partition(":")[0] for text in said] == [
        "the ledger of reads is not signed",
        "the ledger of reads can be signed again",
    ]
