"""`python -m bench.application`: what applications do: secrets, cached and cold, and sealed files beside age."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.figures import Measure, interleaved, seconds
from pg_envelope_client import Broker, KeyClient, NamedKey, Secrets, open_file, seal_file
from stack.processes import Account
from stack.stack import DATABASE, Stack

CACHED_CALLS, COLD_CALLS = 100_000, 50
OURS, AGE = "pg_envelope", "age"
MEGABYTE = 1_000_000
Take = Callable[[], float]


@contextmanager
def client(place: Path) -> Iterator[KeyClient]:
    """Yields a client at the socket of a private stack, whose broker lets this user ask."""
    stack = Stack(place / "stack")
    try:
        stack.up()
        users = stack.broker.config()["broker"].get("allowed_users", [])
        stack.broker.configure({"broker": {"allowed_users": sorted({*users, Account.ours().name})}})
        stack.broker.restart()
        with stack.connect() as connection:
            connection.execute("SELECT envelope.import_secret('bench', 'sk_live_0123456789'::text)")
        with KeyClient(Broker(str(stack.broker.socket)), lambda: stack.connect(DATABASE)) as made:
            yield made
    finally:
        stack.down()


def secret_takes(found: Secrets) -> dict[str, Take]:
    """Returns what measures the microseconds of one `secrets[name]`."""

    def cached() -> None:
        for _ in range(CACHED_CALLS):
            _ = found["bench"]

    def cold() -> None:
        for _ in range(COLD_CALLS):
            found.forget()
            _ = found["bench"]

    return {
        "cached": lambda: seconds(cached) / CACHED_CALLS * 1e6,
        "cold": lambda: seconds(cold) / COLD_CALLS * 1e6,
    }


def file_takes(key: NamedKey, place: Path, size: int) -> dict[str, dict[str, Take]]:
    """Returns what measures the megabytes a second of sealing and opening one file, by peer."""
    plain, sealed, back = place / "plain", place / "sealed", place / "back"
    plain.write_bytes(os.urandom(MEGABYTE) * (size // MEGABYTE))

    def ours(work: Callable[..., object], source: Path, target: Path) -> None:
        with source.open("rb") as read, target.open("wb") as written:
            work(key, read, written)

    def rate(call: Callable[[], None]) -> float:
        return size / MEGABYTE / seconds(call)

    takes: dict[str, dict[str, Take]] = {
        "seal": {OURS: partial(rate, partial(ours, seal_file, plain, sealed))},
        "open": {OURS: partial(rate, partial(ours, open_file, sealed, back))},
    }
    if shutil.which("age"):
        subprocess.run(["age-keygen", "-o", place / "key"], check=True, capture_output=True)
        public = subprocess.run(["age-keygen", "-y", place / "key"], check=True, capture_output=True, text=True).stdout
        by_age, age = place / "by-age", partial(subprocess.run, check=True)
        takes["seal"][AGE] = partial(rate, partial(age, ["age", "-r", public.strip(), "-o", by_age, plain]))  # type: ignore[arg-type]
        takes["open"][AGE] = partial(rate, partial(age, ["age", "-d", "-i", place / "key", "-o", back, by_age]))  # type: ignore[arg-type]
    return takes


def show(measures: list[Measure], console: Console) -> None:
    table = Table("median", "unit", "figures")
    for found in measures:
        figures = [f"{name} {peer.median:,.2f} ±{peer.spread:.0%}" for name, peer in found.peers.items()]
        table.add_row(found.title, found.unit, ", ".join(figures))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.application", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pg_envelope-bench-") as place, client(Path(place)) as made:
        takes = secret_takes(Secrets(made))
        measures = [Measure("secret", "a secret", "µs", interleaved(takes, given.rounds))]
        for name, peers in file_takes(made.named("bench"), Path(place), given.megabytes * MEGABYTE).items():
            for take in peers.values():
                take()
            measures.append(Measure(name, f"{name} a file", "MB/s", interleaved(peers, given.rounds)))
    show(measures, Console(width=120))


if __name__ == "__main__":
    main()
