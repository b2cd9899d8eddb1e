"""Bounds how many values of a column one user may read in a time, over all sessions."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import NamedTuple

# When there are more, the one that was used longest ago begins anew.
MOST = 10_000


class ReadLimit(NamedTuple):
    """At most `rows` values in any `seconds`. Beyond that it refuses, or only tells of it."""

    rows: int
    seconds: int
    refuses: bool

    @property
    def then(self) -> str:
        return "refuse" if self.refuses else "alarm"


class Granted(NamedTuple):
    """How many values a session may read now. `is_new`: the limit was not known to be reached before."""

    amount: int
    is_new: bool


class Window:
    """What one user was granted of one column, by the time of each grant."""

    def __init__(self) -> None:
        self._grants: deque[tuple[float, int]] = deque()
        self._sum = 0
        self._told_until = 0.0

    def ask(self, limit: ReadLimit, wanted: int, now: float) -> Granted:
        """Grants what is left of the limit, and under an alarm all that is wanted."""
        while self._grants and self._grants[0][0] <= now - limit.seconds:
            self._sum -= self._grants.popleft()[1]
        left = max(0, limit.rows - self._sum)
        count = min(wanted, left) if limit.refuses else wanted
        if count:
            self._grants.append((now, count))
            self._sum += count
        is_reached = count == 0 or count > left
        is_new = is_reached and now >= self._told_until
        if is_new:
            self._told_until = now + limit.seconds
        return Granted(count, is_new)


class ReadLimits:
    """The windows of all columns and users. They are kept in memory, since the broker's start."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._windows: OrderedDict[tuple[str, str], Window] = OrderedDict()

    def ask(self, field: str, user: str, limit: ReadLimit, wanted: int) -> Granted:
        window = self._windows.setdefault((field, user), Window())
        self._windows.move_to_end((field, user))
        if len(self._windows) > MOST:
            self._windows.popitem(last=False)
        return window.ask(limit, wanted, self._clock())
