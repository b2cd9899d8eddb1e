"""Random bytes for the nonces of one session, drawn for several messages at once."""

from __future__ import annotations

import os
from time import monotonic

# One system call takes longer than to encrypt a short value; one for as many takes hardly longer than one for one.
DRAWN_AT_ONCE = 16
# A virtual machine that is copied with its memory would use what is left a second time. So nothing is left for long.
KEPT_SECONDS = 0.001


class Nonces:
    """For one thread of one process, which a backend is."""

    def __init__(self) -> None:
        self._drawn = b""
        self._next = 0
        self._until = 0.0

    def draw(self, count: int) -> bytes:
        """So many bytes that nobody was given before."""
        start, end = self._next, self._next + count
        if end > len(self._drawn) or monotonic() > self._until:
            self._drawn = os.urandom(DRAWN_AT_ONCE * count)
            self._until = monotonic() + KEPT_SECONDS
            start, end = 0, count
        self._next = end
        return self._drawn[start:end]
