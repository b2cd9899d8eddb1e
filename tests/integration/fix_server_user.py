"""The command as the server's user runs it, who may ask at the broker's socket."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fix_stack import Database

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]


def command(
    db: Database, role: str, folder: Path, *words: object, environment: dict[str, str], **options: object
) -> Done:
    """Runs the command that is installed on the server, with the connection of a role."""
    found = {"PATH": os.environ["PATH"], "COLUMNS": "200", **db.stack.cluster.environ(db.name, role), **environment}
    done: Done = subprocess.run(
        [str(db.stack.broker.venv / "bin/pg-envelope"), *map(str, words)],
        env=found,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,  # type: ignore[call-overload]
    )
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
    """Runs the command beside the broker, as a superuser of the database."""
    broker, account = db.stack.broker, db.stack.cluster.account
    environment = {**db.stack.cluster.environment, "PG_ENVELOPE_BROKER": str(broker.socket)}
    may: dict[str, object] = {} if os.geteuid() else {"user": account.uid, "group": account.gid, "extra_groups": []}
    return lambda *words, **options: command(
        db, "postgres", folder, *words, environment=environment, **{**may, "stdin": subprocess.DEVNULL, **options}
    )
