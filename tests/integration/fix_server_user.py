"""The command as the server's user runs it, who may ask at the broker's socket."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import fix_forked
from tests.fix_stack import Database

Done = fix_forked.Done
Run = Callable[..., Done]


def command(
    db: Database,
    role: str,
    folder: Path,
    *words: object,
    environment: dict[str, str],
    given: str = "",
    ids: tuple[int, int] | None = None,
) -> Done:
    """Runs the command that is installed on the server, with the connection of a role."""
    found = {"PATH": os.environ["PATH"], "COLUMNS": "200", **db.stack.cluster.environ(db.name, role), **environment}
    program = db.stack.broker.venv / "bin/pg-envelope"
    python = program.parent.resolve() / "python"
    done = fix_forked.run(python, [program, *words], found, given=given, folder=folder, ids=ids)
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture
def folder(db: Database) -> Iterator[Path]:
    """A folder of the server's user."""
    with tempfile.TemporaryDirectory() as made:
        db.stack.cluster.account.own(Path(made))
        yield Path(made)


@pytest.fixture
def run(db: Database, folder: Path) -> Run:
    """Runs the command beside the broker, as the server's user if we may, and as a superuser of the database."""
    broker, account = db.stack.broker, db.stack.cluster.account
    environment = {**db.stack.cluster.environment, "PG_ENVELOPE_BROKER": str(broker.socket)}
    ours = None if os.geteuid() else (account.uid, account.gid)

    def as_server(*words: object, given: str = "", ids: tuple[int, int] | None = ours) -> Done:
        return command(db, "postgres", folder, *words, environment=environment, given=given, ids=ids)

    return as_server
