"""Measures what applications do with the client. `python -m bench.application` measures nothing else."""

from __future__ import annotations

import argparse
import hmac
import json
import os
import random
import resource
import shutil
import subprocess
import tempfile
import time
import tracemalloc
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench import report, targets
from bench.figures import Measure, Sampled, Samples, interleaved, of_cpu, seconds
from bench.settings import Settings
from pg_envelope_client import Broker, ColumnKey, KeyClient, NamedKey, Secrets, Vector, open_file, seal_file
from stack.processes import Account
from stack.stack import DATABASE, Stack

CACHED_CALLS, COLD_CALLS, VALUES, FILE_MEGABYTES = 100_000, 50, 5_000, 128
VECTORS, DIMENSIONS = 500, 1536
MEGABYTE = 1_000_000
NONCE_BYTES = 12
# A file of a quick run may take no time that the clock of processor time shows.
CLOCK_TICK = 1e-6
MADE = """
CREATE TABLE sealed_plain (id bigint PRIMARY KEY, email text);
CREATE TABLE sealed_ours (LIKE sealed_plain INCLUDING ALL);
CALL envelope.protect('sealed_ours', '{"email": {"search": "exact"}}');
CREATE TABLE sealed_bulk (LIKE sealed_plain INCLUDING ALL);
CALL envelope.protect('sealed_bulk', '["email"]');
CREATE TABLE sealed_vectors (id bigint PRIMARY KEY, bytes bytea, text text);
CALL envelope.protect('sealed_vectors', '["bytes", "text"]');
CREATE TABLE kept (name text PRIMARY KEY, value text);
INSERT INTO kept VALUES ('application', 'sk_live_0123456789');
SELECT envelope.import_secret('application', 'sk_live_0123456789'::text);
"""
STORED = "SELECT avg(pg_column_size(bytes)), avg(pg_column_size(text)) FROM sealed_vectors_encrypted"
Connection = psycopg.Connection[Any]
Take = Callable[[], float]


def measure(stack: Stack, settings: Settings) -> list[Measure]:
    """Restarts the broker, so that this user may ask at its socket."""
    folder = tempfile.TemporaryDirectory(prefix="pg_envelope-bench-")
    with folder as place, _client(stack) as keys, stack.connect() as connection:
        connection.execute(MADE)
        return [
            *_values(keys, settings),
            _bulk(keys, connection, settings),
            *_secrets(Secrets(keys), connection, settings),
            *_files(keys.named("application"), Path(place), settings),
            *_vectors(keys, connection, settings),
        ]


@contextmanager
def _client(stack: Stack) -> Iterator[KeyClient]:
    users = stack.broker.config()["broker"].get("allowed_users", [])
    stack.broker.configure({"broker": {"allowed_users": sorted({*users, Account.ours().name})}})
    stack.broker.restart()
    with KeyClient(Broker(str(stack.broker.socket)), lambda: stack.connect(DATABASE)) as made:
        yield made


def _values(keys: KeyClient, settings: Settings) -> list[Measure]:
    """Beside the primitives alone, with a key of their own and without binding, catalog and budget."""
    email, found = keys.field("sealed_ours", "email"), keys.search("sealed_ours", "email_search")
    bare, fernet, secret = AESGCM(os.urandom(32)), Fernet(Fernet.generate_key()), os.urandom(32)
    values = [f"person.{number}@mail.example" for number in range(_few(settings, VALUES))]
    sealed = [email.seal(value, number) for number, value in enumerate(values)]
    nonces = [os.urandom(NONCE_BYTES) for _ in values]
    by_bare = [bare.encrypt(nonce, value.encode(), b"") for nonce, value in zip(nonces, values, strict=True)]
    by_fernet = [fernet.encrypt(value.encode()) for value in values]
    return [
        _cpu("client_seal", "application: seal a value, CPU", settings, {
            "ours": lambda: [email.seal(value, number) for number, value in enumerate(values)],
            "aesgcm": lambda: [bare.encrypt(os.urandom(NONCE_BYTES), value.encode(), b"") for value in values],
            "fernet": lambda: [fernet.encrypt(value.encode()) for value in values],
        }),
        _cpu("client_open", "application: open a value, CPU", settings, {
            "ours": lambda: [email.open(one, number) for number, one in enumerate(sealed)],
            "aesgcm": lambda: [bare.decrypt(*one, b"").decode() for one in zip(nonces, by_bare, strict=True)],
            "fernet": lambda: [fernet.decrypt(one).decode() for one in by_fernet],
        }),
        _cpu("client_token", "application: token of a value, CPU", settings, {
            "ours": lambda: [found.token(value) for value in values],
            "hmac": lambda: [hmac.digest(secret, value.encode(), "sha256") for value in values],
        }),
    ]  # fmt: skip


def _bulk(keys: KeyClient, connection: Connection, settings: Settings) -> Measure:
    """Sealed here and written into the base table, beside the same rows of a plain table."""
    email, count = keys.field("sealed_bulk", "email"), _few(settings, VALUES)
    rows = [(number, f"person.{number}@mail.example") for number in range(count)]

    def plain() -> None:
        _insert(connection, "INSERT INTO sealed_plain VALUES (%s, %s)", rows)

    def ours() -> None:
        sealed = [(number, email.seal(value, number)) for number, value in rows]
        _insert(connection, "INSERT INTO sealed_bulk_encrypted (id, email) VALUES (%s, %s)", sealed)

    takes = {name: partial(_each, work, count) for name, work in {"plain": plain, "ours": ours}.items()}
    return Measure("client_bulk", "application: seal and insert many rows", "µs/row", _warm(takes, settings))


def _insert(connection: Connection, statement: str, rows: list[tuple[int, Any]]) -> None:
    with connection.transaction(force_rollback=True), connection.cursor() as cursor:
        cursor.executemany(statement, rows)


def _secrets(found: Secrets, connection: Connection, settings: Settings) -> list[Measure]:
    cached_calls, cold_calls = _few(settings, CACHED_CALLS), _few(settings, COLD_CALLS)

    def cold() -> None:
        for _ in range(cold_calls):
            found.forget()
            _ = found["application"]

    def plain() -> None:
        for _ in range(cold_calls):
            connection.execute("SELECT value FROM kept WHERE name = %s", ["application"]).fetchone()

    def cached() -> None:
        for _ in range(cached_calls):
            _ = found["application"]

    takes = {name: partial(_each, work, cold_calls) for name, work in {"plain": plain, "ours": cold}.items()}
    kept: dict[str, Take] = {"ours": lambda: _cpu_seconds(cached) / cached_calls * 1e6}
    return [
        Measure("secret_cold", "application: a secret that is not in the cache", "µs", _warm(takes, settings)),
        Measure("secret_cached", "application: a secret in the cache, CPU", "µs", _warm(kept, settings, of_cpu)),
    ]


def _files(key: NamedKey, place: Path, settings: Settings) -> list[Measure]:
    """Beside the program age, where it is installed: on a clock, with the disk, and by the processor's time alone."""
    size = (FILE_MEGABYTES if settings.point_seconds else 1) * MEGABYTE
    plain, sealed, back = place / "plain", place / "sealed", place / "back"
    plain.write_bytes(os.urandom(MEGABYTE) * (size // MEGABYTE))

    def ours(work: Callable[..., object], source: Path, target: Path) -> None:
        with source.open("rb") as read, target.open("wb") as written:
            work(key, read, written)

    seal: dict[str, Callable[[], object]] = {"ours": partial(ours, seal_file, plain, sealed)}
    opened: dict[str, Callable[[], object]] = {"ours": partial(ours, open_file, sealed, back)}
    if shutil.which("age"):
        public = _age_key(place / "key")
        seal["age"] = partial(_run, ["age", "-r", public, "-o", place / "by-age", plain])
        opened["age"] = partial(_run, ["age", "-d", "-i", place / "key", "-o", back, place / "by-age"])
    return [
        made
        for name, title, works in (("file_seal", "seal a file", seal), ("file_open", "open a file", opened))
        for made in _rates(name, f"application: {title}", works, size / MEGABYTE, settings)
    ]


def _rates(
    name: str, title: str, works: Mapping[str, Callable[[], object]], megabytes: float, settings: Settings
) -> Iterator[Measure]:
    for end, told, clock in (("", title, time.perf_counter), ("_cpu", f"{title}, CPU", _cpu_of_all)):
        takes = {peer: partial(_rate, work, clock, megabytes) for peer, work in works.items()}
        yield Measure(f"{name}{end}", told, "MB/s", _warm(takes, settings), more_is_better=True)


def _rate(work: Callable[[], object], clock: Callable[[], float], megabytes: float) -> float:
    began = clock()
    work()
    return megabytes / max(clock() - began, CLOCK_TICK)


def _cpu_of_all() -> float:
    """Returns the seconds of processor time of this process, and of the programs that it has run."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _vectors(keys: KeyClient, connection: Connection, settings: Settings) -> list[Measure]:
    """Embeddings as bytes, beside the same numbers as text, which is what an array or a vector is on the wire."""
    count = _few(settings, VECTORS)
    made = [Vector(random.Random(number).gauss(0, 0.03) for _ in range(DIMENSIONS)) for number in range(count)]
    as_bytes, as_text = (keys.field("sealed_vectors", column) for column in ("bytes", "text"))
    rows = [
        (number, as_bytes.seal(bytes(one), number), as_text.seal(_text_of(one), number))
        for number, one in enumerate(made)
    ]
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO sealed_vectors_encrypted (id, bytes, text) VALUES (%s, %s, %s)", rows)
    ours: list[Callable[[], Any]] = [partial(_read_bytes, as_bytes, number, sealed) for number, sealed, _ in rows]
    text: list[Callable[[], Any]] = [partial(_read_text, as_text, number, sealed) for number, _, sealed in rows]
    sizes = connection.execute(STORED).fetchone()
    stored = {name: Samples([float(size) / 1000]) for name, size in zip(("ours", "text"), sizes or (), strict=True)}
    held = {name: Samples([_held(reads) / 1000]) for name, reads in {"ours": ours, "text": text}.items()}
    works = {name: partial(_all, reads) for name, reads in {"ours": ours, "text": text}.items()}
    return [
        _cpu("vector_open", f"application: open a vector of {DIMENSIONS:,} numbers, CPU", settings, works, count),
        Measure("vector_stored", "application: the same vector in the table", "KB", stored),
        Measure("vector_memory", "application: the same vector in memory", "KB", held),
    ]


def _text_of(vector: Vector) -> str:
    """Returns the shortest text, as PostgreSQL writes real[] and vector."""
    return f"[{','.join(map(_shortest, vector.to_list()))}]"


def _shortest(number: float) -> str:
    texts = (f"{number:.{digits}g}" for digits in range(6, 10))
    return next(text for text in texts if array("f", [float(text)])[0] == number)


def _read_bytes(key: ColumnKey, number: int, sealed: bytes | None) -> Vector:
    return Vector.read(key.open(sealed, number))


def _read_text(key: ColumnKey, number: int, sealed: bytes | None) -> Any:
    return json.loads(key.open(sealed, number))


def _all(reads: list[Callable[[], Any]]) -> None:
    for read in reads:
        read()


def _held(reads: list[Callable[[], Any]]) -> float:
    """Returns the bytes that Python holds for one of the values."""
    tracemalloc.start()
    kept = [read() for read in reads]
    try:
        return tracemalloc.get_traced_memory()[0] / len(kept)
    finally:
        tracemalloc.stop()


def _age_key(path: Path) -> str:
    _run(["age-keygen", "-o", path])
    return subprocess.run(["age-keygen", "-y", path], check=True, capture_output=True, text=True).stdout.strip()


def _run(line: list[Any]) -> None:
    subprocess.run(line, check=True, capture_output=True)


def _cpu(
    name: str, title: str, settings: Settings, works: Mapping[str, Callable[[], object]], count: int | None = None
) -> Measure:
    count = count or _few(settings, VALUES)
    takes = {peer: partial(lambda work: _cpu_seconds(work) / count * 1e6, work) for peer, work in works.items()}
    return Measure(name, title, "µs", _warm(takes, settings, of_cpu))


def _cpu_seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _each(work: Callable[[], None], count: int) -> float:
    """Returns µs each."""
    return seconds(work) / count * 1e6


def _warm(takes: Mapping[str, Take], settings: Settings, sampled: Sampled = interleaved) -> dict[str, Samples]:
    for take in takes.values():
        take()
    return sampled(takes, settings.rounds)


def _few(settings: Settings, count: int) -> int:
    return count if settings.point_seconds else max(count // 100, 5)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.application", description=__doc__)
    parser.add_argument("--rounds", type=int, default=Settings().rounds)
    settings = Settings(rounds=parser.parse_args().rounds)
    with tempfile.TemporaryDirectory(prefix="pg_envelope-bench-") as place:
        stack = Stack(Path(place) / "stack")
        try:
            stack.up()
            measures = measure(stack, settings)
        finally:
            stack.down()
    report.show_part(measures, targets.of_application(measures), report.console())


if __name__ == "__main__":
    main()
