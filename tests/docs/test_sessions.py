"""The psql sessions in README and docs: every statement is run, and must answer as the page says."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_stack import Database

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```psql\n(.*?)^```$", re.DOTALL | re.MULTILINE)
STATEMENT = re.compile(r"^(\w+)=> (.*)\n((?:(?!\w+=> ).*\n?)*)", re.MULTILINE)
ENVELOPE = re.compile(r"\\xe1[0-9a-f]+…?")

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


def psql(db: Database, role: str, statement: str) -> str:
    environment = {
        **db.stack.environ(),
        "PGDATABASE": db.name,
        "PGUSER": role,
        "PGOPTIONS": "-c client_min_messages=warning",
    }
    command = [db.stack.cluster.bindir / "psql", "-X", "-c", statement]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    # What a statement tells comes before its answer.
    return done.stderr + done.stdout


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
def test_answers_as_written(db: Database, steps: list[Step]) -> None:
    assert steps
    for role, statement, shown in steps:
        assert comparable(psql(db, role, statement)) == comparable(shown), statement
