"""Prints the command's results: tables for people, JSON for machines, problems in red on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pg_envelope_client.problems import Problem

if TYPE_CHECKING:
    # A command that prints JSON, or nothing, does without rich, which takes longer to load than most commands to run.
    from rich.console import Console
    from rich.text import Text

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


_as_json = False
# A pipe has no width: a table as wide as its content, so that no word is cut for grep.
NO_LIMIT = 100_000


def machine(wanted: bool) -> None:
    """Sets whether a program reads the output."""
    global _as_json
    _as_json = wanted


def for_machine() -> bool:
    return _as_json


def stdout() -> Console:
    width = None if sys.stdout.isatty() else NO_LIMIT
    return _console(soft_wrap=not sys.stdout.isatty(), width=width)


def stderr() -> Console:
    return _console(stderr=True, soft_wrap=True)


def bars() -> Console:
    """Returns the console for progress bars. It is quiet when a program reads the output."""
    return _console(stderr=True, soft_wrap=True, quiet=_as_json)


def _console(**settings: Any) -> Console:
    from rich.console import Console

    return Console(highlight=False, **settings)


def styled(text: str, style: str = "") -> Text:
    """Returns the text in a style. Control characters in it become `?`."""
    from rich.text import Text

    return Text(plain(text), style=style)


def plain(value: object) -> str:
    """Returns the value as text that cannot steer the terminal: control characters become `?`."""
    text = "" if value is None else str(value)
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)


def say(text: str, style: str = "") -> None:
    """Prints a line for people."""
    if not _as_json:
        stdout().print(styled(text, style))


def done(sentence: str, **values: object) -> None:
    """Prints the result of a command: the sentence for people, the values for machines."""
    if _as_json:
        print_json(values or {"message": sentence})
    else:
        say(sentence)


def print_text(name: str, text: str) -> None:
    """Prints a text as it is; for machines it is the member `name`."""
    if _as_json:
        print_json({name: text})
    else:
        print(text, end="")


def flush() -> None:
    """Passes on what was printed, where the command goes on."""
    sys.stdout.flush()


def note(text: str, style: str = "dim") -> None:
    """Prints a line beside the result, on stderr."""
    if _as_json:
        _print_line({"notice": text})
    else:
        stderr().print(styled(text, style))


def print_json(value: object) -> None:
    # In ASCII it is JSON under every locale.
    print(json.dumps(value, indent=2, default=str))


def _print_line(value: object) -> None:
    """Prints one line of JSON on stderr, so that a program can tell notices and the error apart."""
    print(json.dumps(value, default=str), file=sys.stderr)


def print_rows(rows: Sequence[Row], names: Iterable[str], empty: str) -> None:
    """Prints rows as a table with the columns `names`, or the text `empty` when there are none.

    JSON has all columns.
    """
    if _as_json:
        print_json(rows)
        return
    if not rows:
        say(empty)
        return
    from rich.table import Table

    names = list(names)
    table = Table(header_style="bold")
    for name in names:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(name, row[name]) for name in names))
    stdout().print(table)


def _cell(name: str, value: object) -> Text:
    text = plain(_readable(value))
    return styled(text, STYLES.get(text, "") if name == "state" else "")


def _readable(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def print_problem(problem: Problem) -> None:
    if _as_json:
        names = ("message", "detail", "hint", "sqlstate", "exit_code")
        _print_line({"error": {name: getattr(problem, name) for name in names}})
        return
    console = stderr()
    console.print(styled(f"error: {problem.message}", "bold red"))
    if problem.detail:
        console.print(styled(f"DETAIL: {problem.detail}", "red"))
    if problem.hint:
        console.print(styled(f"HINT: {problem.hint}", "red"))
