"""The cache's bound, time to live and grace, under a clock of our own."""

from __future__ import annotations

import uuid

import pytest

from pg_envelope.broker.keys.cache import Cache, CacheKey, OpenedDek
from pg_envelope.broker.settings.config import CacheSettings as Settings
from pg_envelope.broker.watch.metrics import Metrics

DATABASE = uuid.uuid4()


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def make(clock, **settings):
    return Cache(Settings(**settings), clock, Metrics())


def key(number, **other):
    return CacheKey("default", DATABASE, number, "kek", "catalog", "wrapped")._replace(**other)


def opened(clock):
    return OpenedDek(b"k" * 32, b"f" * 16, clock())


def test_fresh_then_stale_then_gone(clock):
    cache = make(clock, ttl_seconds=10, grace_seconds=100)
    cache.put(key(1), opened(clock))
    clock.now += 9.9
    assert cache.fresh(cache.get(key(1)))
    clock.now += 0.2
    assert not cache.fresh(cache.get(key(1)))
    assert cache.left(cache.get(key(1)), down=True) == pytest.approx(89.9)
    clock.now += 90
    assert cache.get(key(1)) is None
    assert len(cache) == 0


def test_a_grace_below_the_ttl_does_not_shorten_it(clock):
    cache = make(clock, ttl_seconds=10, grace_seconds=0)
    cache.put(key(1), opened(clock))
    clock.now += 9
    assert cache.get(key(1)) is not None
    clock.now += 1
    assert cache.get(key(1)) is None


def test_the_least_recently_used_goes_first(clock):
    cache = make(clock, max_keys=2)
    cache.put(key(1), opened(clock))
    cache.put(key(2), opened(clock))
    cache.get(key(1))
    cache.put(key(3), opened(clock))
    assert [cache.get(key(number)) is not None for number in (1, 2, 3)] == [True, False, True]


@pytest.mark.parametrize(
    "other",
    [
        {"environment": "x"},
        {"database": uuid.uuid4()},
        {"kek": "x"},
        {"store": "vault"},
        {"wrapped": "x"},
        {"dek_id": 2},
    ],
)
def test_each_part_of_the_key_counts(clock, other):
    cache = make(clock)
    cache.put(key(1), opened(clock))
    assert cache.get(key(1, **other)) is None


def test_sweep_forgets_what_nobody_asks_for(clock):
    cache = make(clock, ttl_seconds=10, grace_seconds=20)
    cache.put(key(1), opened(clock))
    clock.now += 15
    cache.put(key(2), opened(clock))
    clock.now += 6
    assert cache.sweep() == 1
    assert len(cache) == 1


def test_a_dek_is_not_in_its_repr(clock):
    assert "kkk" not in repr(opened(clock))
