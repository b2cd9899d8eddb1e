"""What a KMS does to its clients besides dying; each lasts long enough for every procedure under way to meet it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from stack.stack import Stack

from .victims import Victim

LASTS = 0.5
# Longer than the broker waits for an answer: timeout_ms in tests/proof/conftest.py.
HANGS = 4.5
LOGINS = "auth/approle/login"
MOUNTS = ("transit", "kv")


def seal_for_a_while(stack: Stack) -> None:
    stack.openbao.seal()
    time.sleep(LASTS)


def hang(stack: Stack) -> None:
    """Connections stay open, and nothing answers."""
    pid = stack.openbao.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    time.sleep(HANGS)


def go_on(stack: Stack) -> None:
    pid = stack.openbao.pid
    assert pid is not None
    os.kill(pid, signal.SIGCONT)


def revoke_token(stack: Stack) -> None:
    stack.openbao.request("PUT", f"sys/leases/revoke-prefix/{LOGINS}", {"sync": True})


def limit(stack: Stack, rate: float) -> None:
    """So many requests a second in each mount; beyond, 429."""
    for mount in MOUNTS:
        body = {"path": f"{mount}/", "rate": rate, "interval": "1s"}
        stack.openbao.request("POST", f"sys/quotas/rate-limit/{mount}", body)


def unlimit(stack: Stack) -> None:
    for mount in MOUNTS:
        stack.openbao.request("DELETE", f"sys/quotas/rate-limit/{mount}")


@contextmanager
def limited(stack: Stack, rate: float) -> Iterator[None]:
    limit(stack, rate)
    try:
        yield
    finally:
        unlimit(stack)


def limit_for_a_while(stack: Stack) -> None:
    limit(stack, 5)
    time.sleep(LASTS)


TROUBLES = (
    Victim("sealed", lambda stack, _: seal_for_a_while(stack), lambda stack: stack.openbao.unseal()),
    Victim("hanging", lambda stack, _: hang(stack), go_on),
    Victim("limited", lambda stack, _: limit_for_a_while(stack), unlimit),
    Victim("token", lambda stack, _: revoke_token(stack), lambda _: None),
)
