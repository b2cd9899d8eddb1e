"""Measures what a new connection costs: its first read, cold and warm, and its memory."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from bench.figures import Measure, Samples, interleaved, seconds
from bench.peers import OURS, PLAIN
from bench.settings import Settings
from stack.stack import Stack

READ = "SELECT email FROM {} WHERE id = 1"
# The part that no use of Python and AES in a backend can avoid: the interpreter, and the import of the library.
BARE = """CREATE FUNCTION bare() RETURNS void LANGUAGE plpython3u AS $$
import sys
sys.path.insert(0, {packages!r})
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
$$"""
PRIVATE = re.compile(r"^Private_\w+: +(\d+) kB", re.MULTILINE)


def measure(stack: Stack, settings: Settings) -> list[Measure]:
    """Measures first reads with a warm broker beside the bare interpreter, and private memory after them."""
    packages = next((stack.broker.venv / "lib").glob("python3.*/site-packages"))
    with stack.connect() as connection:
        connection.execute(BARE.format(packages=str(packages)))
    statements = {PLAIN.name: READ.format(PLAIN.name), "bare": "SELECT bare()", OURS.name: READ.format(OURS.name)}
    firsts = {name: partial(_first, stack, statement) for name, statement in statements.items()}
    memory = {name: partial(_memory, stack, statement) for name, statement in statements.items()}
    return [
        Measure("first_read", "first read in a new connection", "ms", interleaved(firsts, settings.connections)),
        Measure("memory", "private memory a connection adds", "MB", interleaved(memory, min(5, settings.connections))),
    ]


def cold(stack: Stack, settings: Settings) -> Measure:
    """Measures the first read in a new connection after a restart of the broker. The key comes from the KMS."""
    samples = Samples()
    for _ in range(settings.cold_rounds):
        stack.broker.restart()
        samples.values.append(_first(stack, READ.format(OURS.name)))
    return Measure("cold", "first read, broker and connection cold", "ms", {OURS.name: samples})


def _first(stack: Stack, statement: str) -> float:
    with stack.connect() as connection:
        return seconds(lambda: connection.execute(statement)) * 1e3


def _memory(stack: Stack, statement: str) -> float:
    with stack.connect() as connection:
        connection.execute(READ.format(PLAIN.name))
        before = _private(connection.info.backend_pid)
        connection.execute(statement)
        return (_private(connection.info.backend_pid) - before) / 1024


def _private(pid: int) -> int:
    """Returns the kB that only this process holds."""
    return sum(map(int, PRIVATE.findall(Path(f"/proc/{pid}/smaps_rollup").read_text())))
