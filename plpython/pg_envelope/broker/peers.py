"""Limits what one user of the machine may hold of the broker: connections, and frames that are not whole yet."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from pg_envelope import errors

# Each may grow to the largest frame, 1 MB.
HALF_SENT = 64


class Peers:
    """Counts by user id, so that one user cannot use up what the others need."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.connections: Counter[int] = Counter()
        self._frames: defaultdict[int, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(HALF_SENT))

    @contextmanager
    def connected(self, uid: int) -> Iterator[None]:
        """Counts a connection. Raises Overloaded when the user has as many as are allowed."""
        if self.connections[uid] >= self._most:
            raise errors.Overloaded("the broker has too many connections of this user")
        self.connections[uid] += 1
        try:
            yield
        finally:
            self.connections[uid] -= 1

    def frame(self, uid: int) -> asyncio.Semaphore:
        """Held by the server while it reads a large frame. A user with too many unfinished frames waits for them."""
        return self._frames[uid]
