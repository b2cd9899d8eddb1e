"""Draws random bytes for the nonces of one session, enough for several messages at a time."""

from __future__ import annotations

import os
from time import monotonic

# One system call takes longer than the encryption of a short value, but a call for many nonces takes hardly longer than
# a call for one.
DRAWN_AT_ONCE = 16
# A virtual machine that is copied with its memory would use the rest of these bytes a second time. So no byte is kept
# for long.
KEPT_SECONDS = 0.001


class Nonces:
    """Serves one thread of one process. A backend has only one."""

    def __init__(self) -> None:
        self._drawn = b""
        self._next = 0
        self._until = 0.0

    def draw(self, count: int) -> bytes:
        """Returns so many bytes, and never gives the same bytes twice."""
        start, end = self._next, self._next + count
        if end > len(self._drawn) or monotonic() > self._until:
            self._drawn = os.urandom(DRAWN_AT_ONCE * count)
            self._until = monotonic() + KEPT_SECONDS
            start, end = 0, count
        self._next = end
        return self._drawn[start:end]
