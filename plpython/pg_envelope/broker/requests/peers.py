"""Limits what one peer, a user of the machine or an application, may hold of the broker: connections, and frames that
are not whole yet.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from pg_envelope import errors

# Each may grow to the largest frame, 1 MB.
HALF_SENT = 64


class Peers:
    """Counts by peer, so that one peer cannot use up what the others need."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.connections: Counter[Hashable] = Counter()
        self._frames: defaultdict[Hashable, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(HALF_SENT))

    @contextmanager
    def connected(self, peer: Hashable) -> Iterator[None]:
        """Counts a connection. Raises Overloaded when the peer has as many as are allowed."""
        if self.connections[peer] >= self._most:
            raise errors.Overloaded("the broker has too many connections of this user")
        self.connections[peer] += 1
        try:
            yield
        finally:
            self.connections[peer] -= 1

    def frame(self, peer: Hashable) -> asyncio.Semaphore:
        """Held by the server while it reads a large frame. A peer with too many unfinished frames waits for them."""
        return self._frames[peer]
