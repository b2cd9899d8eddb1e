"""Limits the time of a part of a statement. statement_timeout counts from the start of the client's statement only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from pg_envelope.typed import Any

# timeout.h; the same in PostgreSQL 15 to 18.
STATEMENT_TIMEOUT = 3
QUERY_CANCELED = "57014"


@cache
def _server() -> Any:
    import ctypes

    found = ctypes.CDLL(None)
    found.GetCurrentTimestamp.restype = ctypes.c_int64
    found.get_timeout_active.restype = ctypes.c_bool
    found.get_timeout_finish_time.restype = ctypes.c_int64
    found.enable_timeout_at.argtypes = [ctypes.c_int, ctypes.c_int64]
    found.disable_timeout.argtypes = [ctypes.c_int, ctypes.c_bool]
    return found


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Ends the code inside with SQLSTATE 57014 after so many seconds, or earlier by the session's own timeout."""
    server = _server()
    outer = server.get_timeout_finish_time(STATEMENT_TIMEOUT) if server.get_timeout_active(STATEMENT_TIMEOUT) else None
    end = server.GetCurrentTimestamp() + int(seconds * 1_000_000)
    if outer is not None and outer <= end:
        yield
        return
    server.enable_timeout_at(STATEMENT_TIMEOUT, end)
    try:
        yield
    finally:
        server.disable_timeout(STATEMENT_TIMEOUT, False)
        if outer is not None:
            server.enable_timeout_at(STATEMENT_TIMEOUT, outer)
