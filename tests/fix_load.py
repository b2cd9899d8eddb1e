"""For threads that repeat something beside a test: without pauses they would take all processors of the machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator


def rounds(stop: threading.Event) -> Iterator[None]:
    """Yields until `stop` is set. After each round it waits for twice as long as the round took."""
    while not stop.is_set():
        began = time.monotonic()
        yield
        stop.wait(2 * (time.monotonic() - began))
