"""The circuit breaker, under a clock of our own."""

from __future__ import annotations

import pytest

from pg_envelope import errors
from pg_envelope.broker.kms.breaker import FIRST_PAUSE, THRESHOLD, Breaker


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def opened(clock):
    breaker = Breaker(clock)
    for _ in range(THRESHOLD):
        breaker.failure(errors.KmsSealed(), timed_out=False)
    return breaker


def test_opens_after_failures_in_a_row_and_repeats_their_error(clock):
    breaker = Breaker(clock)
    for _ in range(THRESHOLD - 1):
        breaker.failure(errors.KmsSealed(), timed_out=False)
    breaker.admit()
    breaker.failure(errors.KmsSealed(), timed_out=False)
    with pytest.raises(errors.KmsSealed):
        breaker.admit()


def test_a_success_in_between_counts_anew(clock):
    breaker = Breaker(clock)
    for _ in range(THRESHOLD):
        breaker.failure(errors.KmsUnavailable(), timed_out=False)
        breaker.success()
    breaker.admit()


def test_one_timeout_is_enough(clock):
    breaker = Breaker(clock)
    breaker.failure(errors.KmsUnavailable(), timed_out=True)
    with pytest.raises(errors.KmsUnavailable):
        breaker.admit()


def test_one_trial_after_each_pause_and_longer_pauses(clock):
    breaker = opened(clock)
    clock.now += FIRST_PAUSE
    breaker.admit()
    with pytest.raises(errors.KmsSealed):
        breaker.admit()
    breaker.failure(errors.KmsSealed(), timed_out=False)
    clock.now += FIRST_PAUSE
    with pytest.raises(errors.KmsSealed):
        breaker.admit()
    clock.now += FIRST_PAUSE
    breaker.admit()


def test_a_good_trial_closes_it(clock):
    breaker = opened(clock)
    clock.now += FIRST_PAUSE
    breaker.admit()
    breaker.success()
    breaker.admit()
    assert breaker.error is None
