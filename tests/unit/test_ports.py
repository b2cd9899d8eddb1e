"""The ports of the servers that tests and demo start."""

from __future__ import annotations

import socket
import subprocess
import sys

from stack.processes import BLOCK, free_port

ROUNDS = BLOCK + 20
OTHER = f"from stack.processes import free_port; print(*(free_port() for _ in range({ROUNDS})))"


def test_no_port_is_given_twice() -> None:
    """Also not while nobody listens on it: its server may be stopped at the moment."""
    ours = [free_port() for _ in range(ROUNDS)]
    done = subprocess.run([sys.executable, "-c", OTHER], capture_output=True, text=True, check=True)
    theirs = [int(port) for port in done.stdout.split()]
    assert len({*ours, *theirs}) == len(ours) + len(theirs)


def test_a_port_that_is_taken_is_left_out() -> None:
    port = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port + 1))
        assert free_port() != port + 1
