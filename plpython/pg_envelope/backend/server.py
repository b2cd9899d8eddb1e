"""Calls C functions of the server itself: the role costs 0.1 µs this way, and 10 µs as a query."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from pg_envelope.typed import Any

Moment = tuple[int, int, int]


@cache
def server() -> Any:
    """Returns the library of the running server, with the types of the functions that are called here. None of them
    can raise.
    """
    import ctypes  # not for a session that reads by capability only

    # PyDLL keeps the interpreter's lock. To release and take it for each call would take half as long again.
    found = ctypes.PyDLL(None)
    found.GetCurrentStatementStartTimestamp.restype = ctypes.c_int64
    found.GetCurrentTransactionStartTimestamp.restype = ctypes.c_int64
    found.IsTransactionBlock.restype = ctypes.c_bool
    for name in ("GetUserId", "GetSessionUserId", "GetOuterUserId"):
        getattr(found, name).restype = ctypes.c_uint32
    # The server holds it without a sign, and shows it with one: pg_stat_statements has a bigint.
    found.pgstat_get_my_query_id.restype = ctypes.c_int64
    found.GetTopTransactionIdIfAny.restype = ctypes.c_uint32
    found.GetCurrentSubTransactionId.restype = ctypes.c_uint32
    found.AtEOXact_GUC.argtypes = [ctypes.c_bool, ctypes.c_int]
    found.GetSystemIdentifier.restype = ctypes.c_uint64
    return found


def moment() -> Moment:
    """Returns the statement, transaction and subtransaction under way.

    While the moment is the same, nothing that was written in it was rolled back.
    """
    found = server()
    return (
        found.GetCurrentStatementStartTimestamp(),
        found.GetTopTransactionIdIfAny(),
        found.GetCurrentSubTransactionId(),
    )


def catalog_changes() -> int | None:
    """Returns a number that grows when this session hears of a change of the system catalogs, which hold roles,
    memberships and privileges, or of the key catalog. None after a write of the transaction, because a session does not
    hear of its own changes before the commit.

    A session hears of what others have committed when it begins a transaction, and when it locks a table. PostgreSQL's
    own checks of privileges know as much.
    """
    import ctypes

    if server().GetTopTransactionIdIfAny():
        return None
    return ctypes.c_uint64.in_dll(server(), "SharedInvalidMessageCounter").value


def is_in_block() -> bool:
    """Tells whether a BEGIN is open. Else the transaction began with the client's message, and the session has just
    heard of every change.
    """
    return bool(server().IsTransactionBlock())


def is_parallel_worker() -> bool:
    """Tells whether this process works at a part of another session's query."""
    import ctypes

    return ctypes.c_int.in_dll(server(), "ParallelWorkerNumber").value >= 0


@contextmanager
def settings_kept() -> Iterator[None]:
    """Restores every setting at its end, whatever the code inside SETs, SET LOCALs or RESETs.

    It is the server's own construction for index functions. After an error, the enclosing levels of the statement
    do the same.
    """
    nest = server().NewGUCNestLevel()
    try:
        yield
    finally:
        server().AtEOXact_GUC(False, nest)
