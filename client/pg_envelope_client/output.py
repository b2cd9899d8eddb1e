"""What the command prints: tables for people, JSON for machines, problems in red on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pg_envelope_client.problems import Problem

Row = Mapping[str, Any]
STYLES = {
    "ok": "green",
    "created": "green",
    "already there": "dim",
    "kept": "dim",
    "updated": "yellow",
    "not checked": "yellow",
    "warning": "yellow",
    "failed": "bold red",
}


def stdout() -> Console:
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def stderr() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def plain(value: object) -> str:
    """The value as text that cannot steer the terminal: control characters become `?`."""
    text = "" if value is None else str(value)
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)


def say(text: str, style: str = "") -> None:
    stdout().print(Text(plain(text), style=style))


def note(text: str, style: str = "dim") -> None:
    """A line beside the result, on stderr."""
    stderr().print(Text(plain(text), style=style))


def print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_rows(rows: Sequence[Row], names: Iterable[str], empty: str) -> None:
    """Rows as a table with the columns `names`; `empty` is what to say when there are none."""
    if not rows:
        say(empty)
        return
    names = list(names)
    table = Table(*(name.replace("_", " ") for name in names), header_style="bold")
    for row in rows:
        table.add_row(*(_cell(name, row[name]) for name in names))
    stdout().print(table)


def _cell(name: str, value: object) -> Text:
    text = plain(_readable(value))
    return Text(text, style=STYLES.get(text, "") if name == "state" else "")


def _readable(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def print_problem(problem: Problem) -> None:
    console = stderr()
    console.print(Text(f"error: {plain(problem.message)}", style="bold red"))
    if problem.detail:
        console.print(Text(f"DETAIL: {plain(problem.detail)}", style="red"))
    if problem.hint:
        console.print(Text(f"HINT: {plain(problem.hint)}", style="red"))
