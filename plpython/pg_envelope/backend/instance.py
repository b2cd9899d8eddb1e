"""Tells which running database this is. A copy of the database has the same database uuid, but another home."""

from __future__ import annotations

import os
from functools import cache

from pg_envelope.backend.server import server

# Constants of Linux: AT_FDCWD, STATX_INO | STATX_BTIME, and the places of the mask and of the birth time's seconds and
# nanoseconds in struct statx.
HERE, WANTED, BIRTH = -100, 0x100 | 0x800, 0x800
STATX_BYTES, MASK_AT, SECONDS_AT, NANOSECONDS_AT = 256, slice(0, 4), slice(80, 88), slice(88, 92)


@cache
def home() -> str:
    """Returns the names of the cluster, the database in it and the data directory.

    These names survive a restart, a move and a rename. CREATE DATABASE ... TEMPLATE gives a copy another OID, a
    restored dump lies in another cluster, and a base backup lies in another directory.
    """
    import ctypes  # not for a session that reads by capability only

    database = ctypes.c_uint32.in_dll(server(), "MyDatabaseId").value
    # The working directory of a backend is the data directory.
    return f"{server().GetSystemIdentifier()}/{database}/{os.stat('.').st_ino}@{_birth()}"


def _birth() -> str:
    """Returns when the data directory was made, or an empty text where the file system does not tell."""
    import ctypes

    told = ctypes.create_string_buffer(STATX_BYTES)
    if server().statx(HERE, b".", 0, WANTED, told) or not _number(told.raw[MASK_AT]) & BIRTH:
        return ""
    return f"{_number(told.raw[SECONDS_AT])}.{_number(told.raw[NANOSECONDS_AT])}"


def _number(content: bytes) -> int:
    import sys

    return int.from_bytes(content, sys.byteorder)
