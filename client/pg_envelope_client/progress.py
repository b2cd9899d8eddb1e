"""Progress of envelope.reencrypt: read from the server's notices, shown as a bar on stderr."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from pg_envelope_client import output

_NOTICE = re.compile(r"reencrypt:\s*(\d+)\s+of\s+(\d+)\s+blocks?\b(?:\D*(\d+)\s+values?\b)?", re.IGNORECASE)


@dataclass(frozen=True)
class Step:
    """How far a re-encryption is: blocks of the table, and values written so far if the notice said so."""

    done: int
    total: int
    values: int | None


def parse(notice: str) -> Step | None:
    """The progress in a notice's text; None for any other notice."""
    found = _NOTICE.search(notice)
    if found is None:
        return None
    done, total, values = found.groups()
    return Step(int(done), int(total), None if values is None else int(values))


@dataclass
class Watcher:
    """Takes notices: progress moves the bar, anything else is printed above it."""

    bar: Progress
    last: Step | None = None

    def __call__(self, notice: str) -> None:
        step = parse(notice)
        if step is None:
            self.bar.console.print(Text(output.plain(notice), style="dim"))
        else:
            self.last = step
            self._show(step)

    def _show(self, step: Step) -> None:
        values = "" if step.values is None else f"{step.values:,} values"
        self.bar.update(self.bar.task_ids[0], completed=step.done, total=step.total, values=values)


@contextmanager
def watching(table: str) -> Iterator[Watcher]:
    """A Watcher whose bar is on screen until the block ends."""
    name = TextColumn("{task.description}", markup=False)
    parts = (name, BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[values]}"), TimeRemainingColumn())
    with Progress(*parts, console=output.stderr()) as bar:
        bar.add_task(output.plain(table), total=None, values="")
        yield Watcher(bar)
