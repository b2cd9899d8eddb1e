"""The real servers, a database per test, and roles without any rights of their own."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest

from stack.stack import DATABASE, Stack

NAMES = itertools.count(1)
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "log_statement": "all",
    "log_parameter_max_length": "0",
    # To compile a statement over very many columns takes seconds.
    "jit": "off",
}
ROLES = ("alice", "bob", "owner")
# Copies the template's files. The server's default logs each of its pages, which takes three times as long.
STRATEGY = "STRATEGY FILE_COPY"
COPY = f"TEMPLATE {DATABASE} {STRATEGY}"
# What `envelope.this_is_the_original()` does in a copy, without the time that Python takes to start in a session.
ORIGINAL = """
UPDATE envelope_private.installation SET home_name = current_database(), home = regexp_replace(
    home, '/.*?/', '/' || (SELECT oid FROM pg_database WHERE datname = current_database()) || '/')"""
Fill = Callable[["Database"], None]
MEMORY = Path("/dev/shm")
# All stacks of a run, with their logs, stay far below this.
ROOM = 6 << 30


def fast_place() -> Path:
    """Where test servers keep their files: in memory if there is room and programs may run there, else on disk."""
    with contextlib.suppress(OSError):
        found = os.statvfs(MEMORY)
        runs_programs = not found.f_flag & os.ST_NOEXEC
        if runs_programs and found.f_bavail * found.f_frsize > ROOM and os.access(MEMORY, os.W_OK):
            return MEMORY
    return Path("/tmp")


class Database:
    """A database of its own with the extension; `connect` gives connections in autocommit mode."""

    def __init__(self, stack: Stack, name: str) -> None:
        self.stack = stack
        self.name = name
        self._open = contextlib.ExitStack()
        self.admin = self.connect()

    def connect(self, user: str = "postgres", **options: Any) -> psycopg.Connection[Any]:
        """A new connection; all are closed with the database."""
        return self._open.enter_context(self.stack.connect(self.name, user, **options))

    def sql(self, statement: str, *values: Any, user: str | None = None) -> list[tuple[Any, ...]]:
        """All rows of a statement, by the superuser or on a new connection of `user`; [] when it returns none."""
        connection = self.admin if user is None else self.connect(user)
        cursor = connection.execute(statement, values or None)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []

    def one(self, statement: str, *values: Any, user: str | None = None) -> Any:
        """The first column of the first row."""
        return self.sql(statement, *values, user=user)[0][0]

    def durable(self) -> None:
        """All that is committed so far outlives a crash, and so does what sessions of now on commit."""
        self.sql("SET synchronous_commit = on")
        self.sql(f"ALTER DATABASE {self.name} SET synchronous_commit = on")

    def close(self) -> None:
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """PostgreSQL, OpenBao and broker, up. A test that stops one of them starts it again."""
    made = Stack(Path(tmp_path_factory.mktemp("stack")), postgres_settings=SETTINGS, place=fast_place())
    made.up()
    try:
        with made.connect() as connection:
            for role in ROLES:
                connection.execute(f"CREATE ROLE {role} LOGIN")
            # In the template, so that no test has to.
            connection.execute("GRANT CREATE ON SCHEMA public TO owner")
        yield made
    finally:
        made.down()


class Maintenance:
    """A session that makes and removes databases. It is begun again when the server has been away."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._connection = stack.connect("postgres")
        self._left: list[str] = []
        atexit.register(self.close)

    def run(self, statement: str) -> None:
        try:
            self._connection.execute("SELECT")
        except psycopg.OperationalError:
            self._connection = self._stack.connect("postgres")
        self._connection.execute(statement)

    def remove(self, names: list[str]) -> None:
        """Removes the databases of the call before: DROP DATABASE sleeps for 0.1 s while a session is about to end."""
        gone, self._left = self._left, names
        for name in gone:
            self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        self._connection.close()


@cache
def maintenance(stack: Stack) -> Maintenance:
    """The session of a stack, for as long as the tests run."""
    return Maintenance(stack)


class Maker:
    """Makes databases with the extension, in whose schema public `owner` may create. Removes them in the end."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._made: list[Database] = []

    def __call__(self, template: str = DATABASE) -> Database:
        name = f"test_{os.getpid()}_{next(NAMES)}"
        maintenance(self._stack).run(f"CREATE DATABASE {name} TEMPLATE {template} {STRATEGY}")
        self._made.append(Database(self._stack, name))
        return self._made[-1]

    def remove(self) -> None:
        for database in self._made:
            database.close()
        maintenance(self._stack).remove([database.name for database in self._made])


@contextlib.contextmanager
def databases(stack: Stack) -> Iterator[Maker]:
    """Makes databases with the extension; they go at the end."""
    maker = Maker(stack)
    yield maker
    maker.remove()


@pytest.fixture
def make_db(stack: Stack) -> Iterator[Maker]:
    """Makes databases with the extension; they go with the test."""
    with databases(stack) as maker:
        yield maker


@pytest.fixture
def db(make_db: Maker) -> Database:
    """A database with the extension and nothing else; `owner` may create in its schema public."""
    return make_db()


@pytest.fixture(scope="session")
def templates(stack: Stack) -> Iterator[Callable[[Fill], str]]:
    """The databases that functions have filled, each filled once. Nobody is connected to them."""
    maker, names = Maker(stack), dict[Fill, str]()

    def template(fill: Fill) -> str:
        if fill not in names:
            made = maker()
            fill(made)
            made.close()
            names[fill] = made.name
        return names[fill]

    yield template
    maker.remove()


@pytest.fixture
def filled(make_db: Maker, templates: Callable[[Fill], str]) -> Callable[[Fill], Database]:
    """Makes a database as a function fills it, in the time that a copy takes.

    All copies have the same keys and the same uuid, and each says that it is the original. So this is not for tests
    that destroy, suspend or limit keys: the broker would do it to all copies.
    """

    def make(fill: Fill) -> Database:
        made = make_db(templates(fill))
        made.sql(ORIGINAL)
        return made

    return make


@pytest.fixture
def alice(db: Database) -> psycopg.Connection[Any]:
    """A connection of a role that nobody granted anything."""
    return db.connect("alice")


@pytest.fixture
def bob(db: Database) -> psycopg.Connection[Any]:
    """Another such role."""
    return db.connect("bob")


@pytest.fixture
def owner(db: Database) -> psycopg.Connection[Any]:
    """A role that may make tables, and is no superuser."""
    return db.connect("owner")
