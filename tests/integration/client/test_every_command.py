"""Every command on a bad night: no server, rights or broker, a sealed KMS, no reader, a full disk, odd bytes, Ctrl-C.

Each runs in each circumstance where PROOF_POINTS is set, as `make proof` does. Otherwise a share of these pairs runs,
so that each command and each circumstance has its turn.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from stack.processes import private_file, wait_until
from stack.stack import DATABASE, Stack
from tests.fix_stack import Database

from .fix_tree import leaves, words

SECRET = "planted 8Zr secret"
TABLE, KEY, TENANT = '"Odd ""Näme"', "pay \"rôle' %s", "clinic 'é %d"
# They take away what the others work with.
LAST = ("unprotect", "rekey", "shred")
COMMANDS = sorted(leaves(), key=lambda leaf: (leaf[0][0] in LAST, leaf[0]))
DATABASE_OF_THE_NIGHT = "every_command"
NAMES = itertools.count(1)
DONE, FAILED, USAGE, INTERRUPTED, NO_READER = 0, 1, 2, 130, 141
SHARE = 1 if os.environ.get("PROOF_POINTS") else 16
AT_ONCE = 3


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    def check(self, as_json: bool) -> None:
        assert self.code in (DONE, FAILED, USAGE, INTERRUPTED, NO_READER)
        for fault in ("Traceback", "Exception ignored", "lost sys.", "internal error", SECRET):
            assert fault not in self.out + self.err
        if as_json:
            self.check_json()

    def check_json(self) -> None:
        told = [json.loads(line) for line in self.err.splitlines()]
        assert all(set(line) in ({"notice"}, {"error"}) for line in told)
        errors = [line["error"]["exit_code"] for line in told if "error" in line]
        if self.out:
            json.loads(self.out)
        assert errors == ([] if self.out or self.code in (DONE, NO_READER) else [self.code])


@dataclass
class World:
    """A database with a protected table, a named key and odd names, and files for the commands."""

    stack: Stack
    folder: Path
    database: Database

    def fill(self) -> None:
        sql = self.database.sql
        sql(f'CREATE TABLE {TABLE} (id int PRIMARY KEY, clinic text NOT NULL, "phöne" text, note text)')
        sql(f"INSERT INTO {TABLE} VALUES (1, %s, %s, %s)", TENANT, SECRET, SECRET)
        scope = "scope => 'tenant', scope_column => 'clinic'"
        sql(f"CALL envelope.protect(%s::regclass, '[\"note\"]', store => 'catalog', {scope})", TABLE)
        sql("SELECT envelope.create_key(%s)", KEY)
        (self.folder / "subject").write_text(f"{TENANT}\n")
        for name in ("secret", "passphrase"):
            private_file(self.folder / name, f"{SECRET}\n")

    @property
    def values(self) -> dict[str, Any]:
        """By parameter; a file that a command shall make has another name each time."""
        new, config = str(self.folder / f"made {next(NAMES)}"), str(self.stack.broker.config_file)
        files = {"out": new, "backup": new, "keyring": new, "file": config, "config": config, "key": config}
        given = {name: str(self.folder / name) for name in ("secret", "passphrase", "subject")}
        files |= {f"{name}_file": path for name, path in given.items()}
        rows = {"table": TABLE, "tenant": TENANT, "specs": ["phöne:pad"], "column": "note", "name": KEY}
        kek = {"kek": "default", "to": "gone", "kek rotate name": "default", "kek rewrap name": "default"}
        other = {
            "shred name": TABLE,
            "reason": "asked for",
            "role": '"Al ice é"',
            "label": "é 'nightly'",
            "level": "dek",
        }
        other |= {
            "seal key": KEY,
            "open key": KEY,
            "broker": str(self.stack.broker.socket),
            "command": ["true"],
            "variables": f"A={KEY}",
            "form": "fernet",
            "folder": str(self.folder),
            "every": "90 days",
            "from_environment": "gone",
            "public_key": "no key",
            "taken": "now",
            "until": "never",
        }
        flags = {"check": True, "once": True, "is_due": True, "no_backup": True}
        return files | rows | kek | other | flags

    def words(self, path: tuple[str, ...], command: Any, as_json: bool) -> list[str]:
        return words((*path, *(["--json"] if as_json else [])), command, self.values)

    @property
    def environment(self) -> dict[str, str]:
        of_libpq = self.stack.cluster.environ(self.database.name, "postgres")
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), **of_libpq}

    def begin(self, line: list[str] | list[bytes], **changes: Any) -> subprocess.Popen[bytes]:
        program = self.stack.broker.venv / "bin/pg-envelope"
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        settings = {"env": self.environment, **streams, "cwd": self.folder, **changes}
        settings["stdin"] = subprocess.DEVNULL
        return subprocess.Popen([*settings.pop("through", ()), program, *line], **settings)

    def run(self, line: list[str] | list[bytes], **changes: Any) -> Ended:
        return ended(self.begin(line, **changes))


Run = Callable[[list[str]], Ended]
Circumstance = Callable[[World], AbstractContextManager[Run]]


def ended(process: subprocess.Popen[bytes]) -> Ended:
    out, err = process.communicate(timeout=120)
    return Ended(process.returncode, (out or b"").decode(), (err or b"").decode())


@pytest.fixture(scope="module")
def world(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with stack.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE {DATABASE_OF_THE_NIGHT} TEMPLATE {DATABASE}")
    made = World(stack, tmp_path_factory.mktemp("night"), Database(stack, DATABASE_OF_THE_NIGHT))
    try:
        made.fill()
        yield made
    finally:
        made.database.close()
        with stack.connect("postgres") as connection:
            connection.execute(f"DROP DATABASE {DATABASE_OF_THE_NIGHT} WITH (FORCE)")


def with_environment(**changed: str) -> Circumstance:
    @contextmanager
    def circumstance(world: World) -> Iterator[Run]:
        yield lambda line: world.run(line, env=world.environment | changed)

    return circumstance


@contextmanager
def bare(world: World) -> Iterator[Run]:
    """Neither HOME nor PATH, TERM or LANG: as a broken crontab has it."""
    kept = {name: value for name, value in world.environment.items() if name.startswith("PG")}
    yield lambda line: world.run(line, env=kept)


@contextmanager
def without_broker(world: World) -> Iterator[Run]:
    world.stack.broker.stop()
    try:
        yield world.run
    finally:
        world.stack.broker.start()


@contextmanager
def with_sealed_kms(world: World) -> Iterator[Run]:
    world.stack.openbao.seal()
    try:
        yield world.run
    finally:
        world.stack.openbao.unseal()


def prints_nothing(line: list[str]) -> bool:
    """`rotate --due` tells by the server's notices only."""
    return line[0] == "rotate" and "--json" not in line


@contextmanager
def without_reader(world: World) -> Iterator[Run]:
    reading, writing = os.pipe()
    os.close(reading)

    def run(line: list[str]) -> Ended:
        told = world.run(line, stdout=writing)
        assert told.code != DONE or prints_nothing(line)
        return told

    try:
        yield run
    finally:
        os.close(writing)


def redirected(redirection: str) -> Circumstance:
    @contextmanager
    def circumstance(world: World) -> Iterator[Run]:
        yield lambda line: world.run(line, through=["sh", "-c", f'exec "$@" {redirection}', "sh"])

    return circumstance


@contextmanager
def on_a_full_disk(world: World) -> Iterator[Run]:
    with redirected(">/dev/full")(world) as to_a_full_disk:

        def run(line: list[str]) -> Ended:
            told = to_a_full_disk(line)
            assert told.code != DONE or prints_nothing(line)
            assert "error" in told.err or told.code == DONE
            return told

        yield run


@contextmanager
def with_bytes_that_are_no_text(world: World) -> Iterator[Run]:
    odd = (TABLE, KEY, TENANT, "default", "dek")
    yield lambda line: world.run([os.fsencode(word) + b"\xff" * (word in odd) for word in line])


@contextmanager
def interrupted(world: World) -> Iterator[Run]:
    """While it waits for the server. Commands that do not ask the server end by themselves."""
    tables = world.database.sql(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
        " WHERE schemaname IN ('envelope_private', 'public')"
    )
    with world.database.connect(autocommit=False) as holder, world.stack.connect("postgres") as watcher:
        holder.execute(f"LOCK TABLE {', '.join(name for (name,) in tables)}")  # type: ignore[call-overload]

        def run(line: list[str]) -> Ended:
            name = f"night {next(NAMES)}"
            process = world.begin(line, env=world.environment | {"PGAPPNAME": name})
            wait_until(lambda: process.poll() is not None or waits(watcher, name), 60, "the command waits")
            waited = process.poll() is None
            process.send_signal(signal.SIGINT)
            told = ended(process)
            assert told.code == INTERRUPTED or not waited
            return told

        yield run


def waits(connection: psycopg.Connection[Any], name: str) -> bool:
    waiting = "SELECT FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'"
    return bool(connection.execute(waiting, (name,)).fetchall())


CIRCUMSTANCES: dict[str, Circumstance] = {
    "all is well": with_environment(),
    "a narrow terminal": with_environment(COLUMNS="40"),
    "no server": with_environment(PGHOST="127.0.0.1", PGPORT="1"),
    "no database": with_environment(PGDATABASE="göne 'x'"),
    "no extension": with_environment(PGDATABASE="postgres"),
    "no rights": with_environment(PGUSER="alice"),
    "no such environment": with_environment(PGSSLMODE="nonsense"),
    "no broker": without_broker,
    "KMS sealed": with_sealed_kms,
    "no reader": without_reader,
    "no room for the output": on_a_full_disk,
    "no room for errors": redirected("2>/dev/full"),
    "all closed": redirected("<&- >&- 2>&-"),
    "an ASCII locale": with_environment(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"),
    "bare": bare,
    "bytes that are no text": with_bytes_that_are_no_text,
    "Ctrl-C": interrupted,
}


# What is written to standard error cannot be read there.
UNHEARD = ("no room for errors", "all closed")


@pytest.mark.parametrize("circumstance", CIRCUMSTANCES)
def test_every_command_ends_well(world: World, circumstance: str) -> None:
    place, lines, chance = list(CIRCUMSTANCES).index(circumstance), list[list[str]](), random.Random(circumstance)
    for number, (path, command) in enumerate(COMMANDS):
        if (number * 5 + place) % SHARE == 0:
            lines.append(world.words(path, command, as_json=chance.random() < 0.5))
    with CIRCUMSTANCES[circumstance](world) as run, ThreadPoolExecutor(AT_ONCE) as pool:
        faults = pool.map(lambda line: fault(run, line, heard=circumstance not in UNHEARD), lines)
        found = [each for each in faults if each]
    assert not found, "\n\n".join(found)


def fault(run: Run, line: list[str], *, heard: bool) -> str:
    """What is wrong with how the command ended; empty when nothing is."""
    told = None
    try:
        told = run(line)
        told.check(as_json=heard and "--json" in line)
    except (AssertionError, ValueError) as error:
        return f"{line}: {type(error).__name__}: {error} {told}"
    return ""
