"""Measures point reads by primary key through the view, by pgbench: plain and ours in turn, in short runs."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from bench.figures import Measure, interleaved, of_cpu
from bench.peers import OURS, PLAIN, Peer
from bench.settings import Settings
from stack.processes import folder, run_as
from stack.stack import DATABASE, Stack

READER, PASSWORD = "reader", "reader"
LISTS = {"email": "one column", "*": "whole row"}
FEW_TRANSACTIONS = 20
CPU_READS = 2000
TOTAL = re.compile(r"number of transactions actually processed: (\d+)")
RATE = re.compile(r"tps = ([\d.]+)")
FIRST_SECOND = re.compile(r"progress: ([\d.]+) s, ([\d.]+) tps")


def measure(stack: Stack, settings: Settings) -> list[Measure]:
    """Measures transactions a second of a role that was granted SELECT, over the Unix socket and over TCP."""
    with stack.connect() as connection:
        connection.execute(f"CREATE ROLE {READER} LOGIN PASSWORD '{PASSWORD}'")
        connection.execute(f"GRANT SELECT ON {PLAIN.name}, {OURS.name} TO {READER}")
    hosts = {"Unix socket": str(stack.cluster.socket_directory), "TCP": "127.0.0.1"}
    rates = [_point(stack, settings, host, columns) for host in hosts.items() for columns in LISTS.items()]
    return [*rates, _cpu(stack, settings)]


def _point(stack: Stack, settings: Settings, host: tuple[str, str], columns: tuple[str, str]) -> Measure:
    takes = {peer.name: partial(_take, stack, settings, host[1], columns[0], peer) for peer in (PLAIN, OURS)}
    name = f"point_{'tcp' if host[0] == 'TCP' else 'unix'}_{'row' if columns[0] == '*' else 'column'}"
    samples = interleaved(takes, max(settings.rounds, 8) if settings.point_seconds else 1)
    return Measure(name, f"point read, {host[0]}, {columns[1]}", "tps", samples, more_is_better=True)


def _take(stack: Stack, settings: Settings, host: str, columns: str, peer: Peer) -> float:
    places = folder(stack.home / "bench", 0o755)
    script = places / "point.sql"
    script.write_text(f"\\set id random(1, {settings.rows})\nSELECT {columns} FROM {peer.name} WHERE id = :id;\n")
    script.chmod(0o644)
    length = ["-T", str(settings.point_seconds), "-P", "1"] if settings.point_seconds else ["-t", str(FEW_TRANSACTIONS)]
    # pgbench writes its progress to stderr, and run_as gives stdout; hence the shell.
    program = [str(stack.cluster.bindir / "pgbench"), "-n", "-M", "prepared", "-f", str(script), *length]
    environment = stack.cluster.environ(DATABASE, READER) | {"PGHOST": host, "PGPASSWORD": PASSWORD}
    return _warm_rate(run_as(stack.cluster.account, ["sh", "-c", '"$@" 2>&1', "sh", *program], environment), settings)


def _cpu(stack: Stack, settings: Settings) -> Measure:
    """Measures the same read by the processor time of its backend, which a busy machine changes least."""
    reads = CPU_READS if settings.point_seconds else FEW_TRANSACTIONS
    with stack.connect() as plain, stack.connect() as ours:
        takes = {peer.name: partial(_take_cpu, c, peer, reads) for peer, c in ((PLAIN, plain), (OURS, ours))}
        for take in takes.values():
            take()
        samples = of_cpu(takes, settings.rounds)
    return Measure("point_cpu", "point read, server's CPU, one column", "µs", samples)


def _take_cpu(connection: psycopg.Connection[Any], peer: Peer, reads: int) -> float:
    before = nanoseconds(connection.info.backend_pid)
    with connection.cursor() as cursor:
        for _ in range(reads):
            cursor.execute(f"SELECT email FROM {peer.name} WHERE id = %s", [1], prepare=True)
    return (nanoseconds(connection.info.backend_pid) - before) / reads / 1e3


def nanoseconds(pid: int) -> int:
    """Returns the processor time so far, in nanoseconds."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def _warm_rate(said: str, settings: Settings) -> float:
    """Returns transactions a second after the first second, which holds the connection's one-time costs."""
    first = FIRST_SECOND.search(said)
    total, rate = TOTAL.search(said), RATE.search(said)
    if total is None or rate is None:
        raise AssertionError(f"pgbench said something else:\n{said}")
    if first is None or settings.point_seconds < 2:
        return float(rate[1])
    passed = float(first[1])
    return (int(total[1]) - passed * float(first[2])) / (settings.point_seconds - passed)
