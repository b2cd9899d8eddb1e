"""Progress of envelope.reencrypt and envelope.rotate_kek: read from the server's notices, shown as a bar on stderr."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from pg_envelope_client import output

_NOTICE = re.compile(
    r"(?:reencrypt:\s*(\d+)\s+of\s+(\d+)\s+blocks?\b(?:\D*(\d+)\s+(?:values?|rows?)\b)?"
    r"|(?:rotate_kek|rewrap):\s*(\d+)\s+of\s+(\d+)\s+DEKs\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Step:
    """How far it is: blocks of the table, and rows written so far if the notice said so; or DEKs."""

    done: int
    total: int
    rows: int | None


def parse(notice: str) -> Step | None:
    """The progress in a notice's text; None for any other notice."""
    found = _NOTICE.search(notice)
    if found is None:
        return None
    blocks, all_blocks, rows, deks, all_deks = found.groups()
    return Step(int(blocks or deks), int(all_blocks or all_deks), None if rows is None else int(rows))


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

    def finish(self) -> None:
        """The server names no last block: it reports every so often, and a short run not at all."""
        total = self.last.total if self.last else 1
        self.bar.update(self.bar.task_ids[0], completed=total, total=total)

    def _show(self, step: Step) -> None:
        rows = "" if step.rows is None else f"{step.rows:,} rows"
        self.bar.update(self.bar.task_ids[0], completed=step.done, total=step.total, rows=rows)


@contextmanager
def watching(table: str) -> Iterator[Watcher]:
    """A Watcher whose bar is on screen until the block ends."""
    name = TextColumn("{task.description}", markup=False)
    parts = (name, BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rows]}"), TimeRemainingColumn())
    with Progress(*parts, console=output.stderr()) as bar:
        bar.add_task(output.plain(table), total=None, rows="")
        watcher = Watcher(bar)
        # Left on screen only when it has come to its end: an error is the last thing to read.
        bar.live.transient = True
        yield watcher
        bar.live.transient = False
        watcher.finish()
