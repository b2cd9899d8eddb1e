"""Bounds how many keys an application may ask for in a time."""

from __future__ import annotations

from collections.abc import Callable

from pg_envelope import errors

BURST_SECONDS = 10.0


class Rate:
    """A bucket that fills with `per_second`, up to the keys of ten seconds. `clock` is in seconds."""

    def __init__(self, per_second: float, clock: Callable[[], float]) -> None:
        self._per_second, self._clock = per_second, clock
        self._most = max(1.0, per_second * BURST_SECONDS)
        self._left, self._since = self._most, clock()

    def take(self, keys: int) -> None:
        """Counts keys that a request asks for. Raises Overloaded when there are too many."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._since) * self._per_second)
        self._since = now
        if keys > self._left:
            raise errors.Overloaded(
                "this application asks for too many keys",
                hint="Ask again later, and for fewer keys at once; see keys_per_second of [door].",
            )
        self._left -= keys
