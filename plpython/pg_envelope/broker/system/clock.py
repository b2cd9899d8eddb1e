"""Holds the clock by which keys expire."""

from __future__ import annotations

import time


def now() -> float:
    """Returns seconds. They also count while the machine sleeps, so that a suspended machine's keys grow old."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
