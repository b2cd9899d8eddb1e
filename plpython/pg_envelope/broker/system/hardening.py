"""Keeps keys out of core dumps, swap and other processes' reach, as far as the system allows."""

from __future__ import annotations

import ctypes
import logging
import os
import resource

log = logging.getLogger(__name__)

PR_SET_DUMPABLE = 4
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4
M_ARENA_MAX = -8


def harden() -> None:
    """To be called before the first secret is read. Python cannot promise to wipe memory; this narrows the ways in."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        log.warning("cannot forbid core dumps: %s", os.strerror(ctypes.get_errno()))
    _keep_memory_together(libc)
    _lock_memory(libc)
    _raise_file_limit()


def _keep_memory_together(libc: ctypes.CDLL) -> None:
    """By default glibc keeps a heap for each thread, so each call to a KMS would leave free memory behind."""
    libc.mallopt(M_ARENA_MAX, 1)


def _lock_memory(libc: ctypes.CDLL) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    # With a finite limit, MCL_FUTURE would turn a later allocation into a crash.
    if soft != resource.RLIM_INFINITY and os.geteuid() != 0:
        log.warning("memory is not locked and may be swapped out; set LimitMEMLOCK=infinity for the service")
    elif libc.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0:
        log.warning("memory is not locked and may be swapped out: %s", os.strerror(ctypes.get_errno()))


def _raise_file_limit() -> None:
    """Each backend holds a connection, and the usual soft limit is 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
