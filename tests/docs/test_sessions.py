"""The psql sessions in README and docs: every statement is run, and must answer as the page says."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.fix_stack import Database

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```psql\n(.*?)^```$", re.DOTALL | re.MULTILINE)
STATEMENT = re.compile(r"^(\w+)=> (.*)\n((?:(?!\w+=> ).*\n?)*)", re.MULTILINE)
ENVELOPE = re.compile(r"\\xe1[0-9a-f]+…?")
END = "the-end-of-an-answer"
SECONDS = 120

Step = tuple[str, str, str]


def sessions() -> Iterator[object]:
    for page in PAGES:
        for number, block in enumerate(BLOCK.findall(page.read_text()), 1):
            yield pytest.param(STATEMENT.findall(block), id=f"{page.name}-{number}")


def comparable(output: str) -> list[str]:
    """Lines without what differs from run to run: envelopes, the width they give a table, trailing blanks."""
    lines = ENVELOPE.sub("<envelope>", output).strip().splitlines()
    if any("<envelope>" in line for line in lines):
        lines = [re.sub(r"-+", "-", line).strip() for line in lines]
    return [line.rstrip() for line in lines]


def until_end(stream: IO[str] | None) -> Iterator[str]:
    for line in stream or ():
        if line == f"{END}\n":
            return
        yield line
    pytest.fail("psql ended")


class Psql:
    """A session of a role, as its reader has it: from one statement of the page to the next."""

    def __init__(self, db: Database, role: str) -> None:
        environment = {
            **db.stack.environ(),
            "PGDATABASE": db.name,
            "PGUSER": role,
            "PGOPTIONS": "-c client_min_messages=warning",
        }
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self._process = subprocess.Popen([db.stack.cluster.bindir / "psql", "-X"], env=environment, text=True, **pipes)

    def answer(self, statement: str) -> str:
        end = "" if statement.startswith("\\") or statement.endswith(";") else ";"
        # A quote that no one closes would swallow the end.
        limit = threading.Timer(SECONDS, self._process.kill)
        limit.start()
        print(f"{statement}{end}\n\\echo {END}\n\\warn {END}", file=self._process.stdin, flush=True)
        # What a statement tells comes before its answer.
        found = [line for stream in (self._process.stderr, self._process.stdout) for line in until_end(stream)]
        limit.cancel()
        return "".join(found)

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture
def psql(db: Database) -> Iterator[Callable[[str, str], str]]:
    """What psql shows a role for a statement."""
    opened: dict[str, Psql] = {}

    def answer(role: str, statement: str) -> str:
        if role not in opened:
            opened[role] = Psql(db, role)
        return opened[role].answer(statement)

    yield answer
    for session in opened.values():
        session.close()


@pytest.fixture
def roles(db: Database) -> Iterator[None]:
    for role in ("app", "analyst"):
        db.sql(f"CREATE ROLE {role} LOGIN")
    yield
    for role in ("app", "analyst"):
        db.sql(f"DROP OWNED BY {role}")
        db.sql(f"DROP ROLE {role}")


@pytest.mark.usefixtures("roles")
@pytest.mark.parametrize("steps", list(sessions()))
def test_answers_as_written(psql: Callable[[str, str], str], steps: list[Step]) -> None:
    assert steps
    for role, statement, shown in steps:
        assert comparable(psql(role, statement)) == comparable(shown), statement
