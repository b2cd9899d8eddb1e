"""A KMS that refuses for its quota: the broker waits and asks again, and does not take it for an outage."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pg_envelope import errors
from pg_envelope.broker.kms import kms as module
from pg_envelope.broker.kms.kms import Kms
from pg_envelope.broker.watch.metrics import Metrics

MANY = 10
MINUTE = 60.0


class Clock:
    """Goes on by a minute with each request, so that no machine is too slow for one."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[Kms]:
    monkeypatch.setattr(module, "FIRST_RETRY", 0.001)
    monkeypatch.setattr(module, "LONGEST_RETRY", 0.002)
    provider: Any = SimpleNamespace(close=lambda: None)
    made = Kms("main", provider, MINUTE, Metrics(), clock)
    yield made
    made.close()


class Busy:
    """Refuses so many times, then answers."""

    def __init__(self, clock: Clock, times: int) -> None:
        self._clock, self.left, self.asked = clock, times, 0

    def __call__(self) -> str:
        self._clock.now += MINUTE
        self.asked += 1
        if self.asked <= self.left:
            raise errors.KmsBusy
        return "done"


def test_also_a_write_is_asked_again_for_it_was_never_begun(kms: Kms, clock: Clock) -> None:
    busy = Busy(clock, MANY)
    assert asyncio.run(kms.once("kv_write", clock() + 2 * MANY * MINUTE, busy)) == "done"
    assert (busy.asked, kms.down) == (MANY + 1, None)


@pytest.mark.parametrize("way", ["once", "call"])
def test_patience_ends_with_the_callers_time_and_the_kms_is_not_down(kms: Kms, clock: Clock, way: str) -> None:
    busy = Busy(clock, 10**9)
    with pytest.raises(errors.KmsBusy):
        asyncio.run(getattr(kms, way)("unwrap", clock() + MANY * MINUTE, busy))
    assert busy.asked == MANY
    assert kms.down is None


def test_it_is_an_unavailable_kms_to_all_that_knows_no_better() -> None:
    """So a cached DEK is handed out within its grace."""
    assert issubclass(errors.KmsBusy, errors.KmsUnavailable)
    assert errors.BY_CODE["kms_busy"] is errors.KmsBusy
