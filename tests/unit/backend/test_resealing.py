"""How a job goes on after its first walk. What it writes is tested on a server: tests/integration/rotation, online."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from pg_envelope.backend.jobs import resealing
from pg_envelope.backend.jobs.resealing import FEW_BATCHES, Resealing

BATCH = 100
FEW = FEW_BATCHES * BATCH


class World:
    """A table with as many old rows as `left` tells, one number for each look, and what the job does about them."""

    batch_size = piece = BATCH
    rows = 0

    def __init__(self, left: list[int]) -> None:
        self._left = left
        self.done: list[str] = []

    def count(self, query: str) -> int:
        return self._left.pop(0)

    def run(self, statement: str) -> int:
        self.done.append("waits for one" if "LIMIT 1 FOR NO KEY UPDATE" in statement else "takes a batch")
        assert ("SKIP LOCKED" in statement) == (self.done[-1] == "takes a batch")
        return 1

    def walk(self, act: Any) -> None:
        self.done.append("walks")

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class Work:
    any = movable = "t.old"
    values = {"secret": "sealed(t)"}  # noqa: RUF012
    emptied: dict[str, str] = {}  # noqa: RUF012


class LayoutOfOne:
    base = "t"


@pytest.mark.parametrize(
    ("left", "done"),
    [
        ([0, 0], []),
        ([FEW + 1, 0], ["walks"]),
        ([FEW + 1, FEW + 1, 0], ["walks", "walks"]),
        ([FEW + 1, FEW, FEW - BATCH, 0], ["walks", "takes a batch", "takes a batch"]),
        ([9, 9, 9, 8, 0], ["walks", "takes a batch", "waits for one", "takes a batch"]),
    ],
)
def test_few_rows_are_taken_where_they_are(monkeypatch: pytest.MonkeyPatch, left: list[int], done: list[str]) -> None:
    assert acts(monkeypatch, World(left)) == done


def test_no_more_keys_are_made_ready_than_for_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    world = World([FEW, BATCH + 1, BATCH, 0])
    done = acts(monkeypatch, world, lambda *which: asked.append(which))
    assert done == ["walks", "walks", "takes a batch"]
    assert asked == [("t", "t.old")]


def acts(monkeypatch: pytest.MonkeyPatch, world: World, ready: Callable[..., None] | None = None) -> list[str]:
    monkeypatch.setattr(resealing.whole, "refuse_hidden", lambda *_: None)
    parts = cast(Any, world)
    Resealing(parts, parts, cast(Any, LayoutOfOne()), {}, parts, parts, lambda careful: Work(), ready).clean()
    return world.done
