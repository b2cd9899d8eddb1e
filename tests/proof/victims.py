"""Who is killed, and how it is brought back: as an init system or an administrator would, and no more."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from stack.processes import wait_until
from stack.stack import Stack

WAIT = 60
NOT_WELL = "SELECT count(*) FROM envelope.status() WHERE check_name IN ('broker', 'kek default') AND state <> 'ok'"


@dataclass(frozen=True)
class Victim:
    """`kill` gets the process ids of the backends that run procedures; `restore` returns when all is up again."""

    name: str
    kill: Callable[[Stack, Sequence[int]], None]
    restore: Callable[[Stack], None]


def kill_backends(stack: Stack, pids: Sequence[int]) -> None:
    """Each by SIGKILL, as the out-of-memory killer does; the postmaster then ends all sessions and recovers."""
    with stack.connect("postgres") as witness:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: gone(witness), WAIT, "the end of all sessions")


def gone(connection: psycopg.Connection[Any]) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return True
    return False


def recovered(stack: Stack, database: str) -> bool:
    """Whether broker and KMS are well, as the server sees them."""
    with stack.connect(database) as connection:
        return connection.execute(NOT_WELL).fetchone() == (0,)


VICTIMS = (
    Victim("backend", kill_backends, lambda stack: wait_until(stack.cluster.ready, WAIT, "recovery")),
    Victim("server", lambda stack, _: stack.cluster.crash(), lambda stack: stack.cluster.start()),
    Victim("broker", lambda stack, _: stack.broker.kill(), lambda stack: stack.broker.start()),
    Victim("openbao", lambda stack, _: stack.openbao.kill(), lambda stack: stack.openbao.start()),
)
