"""Tells which statement of PostgreSQL calls: the client's or a function's, whichever has the active snapshot."""

from __future__ import annotations

import ctypes
from functools import cache

from pg_envelope.backend.server import server
from pg_envelope.typed import Any, NamedTuple


class _Snapshot(ctypes.Structure):
    """The beginning of SnapshotData (utils/snapshot.h), the same from PostgreSQL 15 to 18."""

    _fields_ = (
        ("snapshot_type", ctypes.c_int),
        ("xmin", ctypes.c_uint32),
        ("xmax", ctypes.c_uint32),
        ("xip", ctypes.c_void_p),
        ("xcnt", ctypes.c_uint32),
        ("subxip", ctypes.c_void_p),
        ("subxcnt", ctypes.c_int32),
        ("suboverflowed", ctypes.c_bool),
        ("takenDuringRecovery", ctypes.c_bool),
        ("copied", ctypes.c_bool),
        ("curcid", ctypes.c_uint32),
    )


class Statement(NamedTuple):
    """Identifies a statement: equal for all its calls, and different for every other statement.

    A statement that was rolled back and the next one differ in the subtransaction. The statements of one function
    differ in the command counter.
    """

    transaction: int
    started: int
    subtransaction: int
    command: int


@cache
def _functions() -> Any:
    found = server()
    found.GetActiveSnapshot.restype = ctypes.c_void_p
    found.GetCurrentTransactionStartTimestamp.restype = ctypes.c_int64
    return found


def calling() -> tuple[Statement, int]:
    """Returns the calling statement, and the oldest transaction that its snapshot takes for unfinished.

    To be called only from SQL functions to which PostgreSQL gives no snapshot of their own: IMMUTABLE functions and
    triggers.
    """
    found = _functions()
    snapshot = _Snapshot.from_address(found.GetActiveSnapshot())
    statement = Statement(
        found.GetCurrentTransactionStartTimestamp(),
        found.GetCurrentStatementStartTimestamp(),
        found.GetCurrentSubTransactionId(),
        snapshot.curcid,
    )
    return statement, snapshot.xmin
