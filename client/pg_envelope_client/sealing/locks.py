"""Locks threads out, and is open in a process that was forked while another thread held it."""

from __future__ import annotations

import os
import threading


class ProcessLock:
    """A lock that one thread may take more than once. `forked` tells whether this process is new to it."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.RLock()

    @property
    def forked(self) -> bool:
        return self._owner != os.getpid()

    def __enter__(self) -> None:
        if self.forked:
            self.__init__()  # type: ignore[misc]
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
