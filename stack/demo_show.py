"""Prints the demo's text: headings, statements as psql would echo them, their results as tables, progress bars."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import psycopg
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

Connection = psycopg.Connection[Any]
Result = TypeVar("Result")
MAX_CELL = 46


class Show:
    """Prints to one console; `statement` also runs what it prints."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)

    def heading(self, text: str) -> None:
        self.console.print()
        self.console.rule(f"[bold]{text}", align="left")

    def say(self, text: str) -> None:
        self.console.print(Text(text, style="italic"))

    def statement(self, connection: Connection, statement: str) -> list[tuple[Any, ...]]:
        """Echoes a statement with its role, runs it, prints rows, status or error."""
        role = run(connection, "SELECT session_user").fetchone()
        self.console.print(Text(f"{role and role[0]}=> {statement.strip()};", style="cyan"))
        try:
            cursor = run(connection, statement)
        except psycopg.Error as error:
            self.error(error)
            return []
        rows: list[tuple[Any, ...]] = cursor.fetchall() if cursor.description else []
        if cursor.description:
            self.table([column.name for column in cursor.description], rows)
        else:
            self.console.print(cursor.statusmessage)
        return rows

    def error(self, error: psycopg.Error) -> None:
        told = error.diag
        self.console.print(Text(f"ERROR {told.sqlstate}:  {told.message_primary or error}", style="red"))
        for name, text in (("DETAIL", told.message_detail), ("HINT", told.message_hint)):
            if text:
                self.console.print(Text(f"{name}:  {text}", style="red"))

    def table(self, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(_cell(value)) for value in row))
        self.console.print(table)

    def progress(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        return Progress(*columns, console=self.console)

    def counted(self, rows: Iterable[Result], total: int, what: str) -> Iterator[Result]:
        """Yields the rows, with a bar that fills as they are taken."""
        with self.progress() as bar:
            yield from bar.track(rows, total=total, description=what)

    def pause(self, seconds: float, what: str) -> None:
        """Shows a bar that fills in `seconds`."""
        for _ in self.counted(range(20), 20, what):
            time.sleep(seconds / 20)

    def waiting(self, work: Callable[[], Result], what: str) -> Result:
        """Shows a bar without end while `work` runs, for work that cannot tell its progress.

        Raises what `work` raises.
        """
        with self.progress() as bar, ThreadPoolExecutor(1) as pool:
            bar.add_task(what, total=None)
            return pool.submit(work).result()


def run(connection: Connection, statement: str) -> psycopg.Cursor[Any]:
    """Runs a statement as bytes, since psycopg wants to see that a str is a literal."""
    return connection.execute(statement.encode())


def _cell(value: Any) -> str:
    text = "" if value is None else f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)
    text = text.replace("\n", "⏎")
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…"
