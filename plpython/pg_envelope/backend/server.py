"""The server's own C functions: role, statement and transaction cost 0.1 µs this way, 10 µs as a query."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

Moment = tuple[int, int, int]


@cache
def server() -> Any:
    """What of the running server is called from here; none of these functions can raise."""
    import ctypes  # not for a session that reads by capability only

    # PyDLL: who lets go of the interpreter's lock and takes it again for each call needs half as long again.
    found = ctypes.PyDLL(None)
    found.GetCurrentStatementStartTimestamp.restype = ctypes.c_int64
    found.GetUserId.restype = ctypes.c_uint32
    found.GetTopTransactionIdIfAny.restype = ctypes.c_uint32
    found.GetCurrentSubTransactionId.restype = ctypes.c_uint32
    found.AtEOXact_GUC.argtypes = [ctypes.c_bool, ctypes.c_int]
    found.GetSystemIdentifier.restype = ctypes.c_uint64
    return found


def moment() -> Moment:
    """The statement, transaction and subtransaction under way.

    While it is the same, nothing was rolled back that was written in it.
    """
    found = server()
    return (
        found.GetCurrentStatementStartTimestamp(),
        found.GetTopTransactionIdIfAny(),
        found.GetCurrentSubTransactionId(),
    )


@contextmanager
def settings_kept() -> Iterator[None]:
    """Afterwards every setting is what it was, whatever code SET, SET LOCAL or RESET meanwhile.

    The server's own construction around index functions. An error of a statement leaves it as the levels below it do.
    """
    nest = server().NewGUCNestLevel()
    try:
        yield
    finally:
        server().AtEOXact_GUC(False, nest)
