"""A circuit breaker: while a KMS is down, requests fail at once and only single trials go through."""

from __future__ import annotations

from collections.abc import Callable

from pg_envelope import errors

THRESHOLD = 3
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 5.0


class Breaker:
    """Opens after THRESHOLD failures in a row, or after one that cost its whole timeout."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._pause = FIRST_PAUSE
        self._closed_until_trial = 0.0
        self.error: errors.EnvelopeError | None = None

    def admit(self) -> None:
        """Raises the last error while open; lets one trial through when its pause is over."""
        if self.error is None:
            return
        now = self._clock()
        if now < self._closed_until_trial:
            raise self.error
        self._closed_until_trial = now + self._pause

    def success(self) -> None:
        self._failures, self._pause, self.error = 0, FIRST_PAUSE, None

    def failure(self, error: errors.EnvelopeError, timed_out: bool) -> None:
        self._failures += 1
        if self.error is None and self._failures < THRESHOLD and not timed_out:
            return
        if self.error is not None:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        # The traceback is dropped: the error is raised many times, and its traceback would grow each time.
        self.error = error.with_traceback(None)
        self._closed_until_trial = self._clock() + self._pause
