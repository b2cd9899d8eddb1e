"""Draws a bar on stderr, from the server's notices or from the jobs in envelope.progress."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pg_envelope_client import output

if TYPE_CHECKING:
    from rich.progress import Progress

_NOTICE = re.compile(
    r"(?:(?:reencrypt|verify|search|online):\s*(\d+)\s+of\s+(\d+)\s+blocks?\b(?:\D*(\d+)\s+(?:values?|rows?)\b)?"
    r"|(?:rotate_kek|rewrap|move_kek|rekey):\s*(\d+)\s+of\s+(\d+)\s+DEKs\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Step:
    """The progress: blocks of the table, and rows written so far if the notice tells them; or DEKs."""

    done: int
    total: int
    rows: int | None


def parse(notice: str) -> Step | None:
    """Returns the progress in a notice's text, or None for any other notice."""
    found = _NOTICE.search(notice)
    if found is None:
        return None
    blocks, all_blocks, rows, deks, all_deks = found.groups()
    return Step(int(blocks or deks), int(all_blocks or all_deks), None if rows is None else int(rows))


def _beside(bar: Progress, notice: str) -> None:
    """Prints a notice above the bar."""
    if output.for_machine():
        output.note(notice)
    else:
        bar.console.print(output.styled(notice, "dim"))


@dataclass
class Watcher:
    """Takes notices: progress moves the bar, and any other notice is printed above it."""

    bar: Progress
    last: Step | None = None

    def __call__(self, notice: str) -> None:
        step = parse(notice)
        if step is None:
            _beside(self.bar, notice)
        else:
            self.last = step
            self._show(step)

    def finish(self) -> None:
        """Fills the bar: the server names no last block, because it reports now and then, and in a short run not at
        all.
        """
        total = self.last.total if self.last else 1
        self.bar.update(self.bar.task_ids[0], completed=total, total=total)

    def _show(self, step: Step) -> None:
        rows = "" if step.rows is None else f"{step.rows:,} rows"
        self.bar.update(self.bar.task_ids[0], completed=step.done, total=step.total, rows=rows)


@contextmanager
def watching(table: str) -> Iterator[Watcher]:
    """Yields a Watcher whose bar is on screen until the block ends."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    name = TextColumn("{task.description}", markup=False)
    parts = (name, BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rows]}"), TimeRemainingColumn())
    with Progress(*parts, console=output.bars()) as bar:
        bar.add_task(output.plain(table), total=None, rows="")
        watcher = Watcher(bar)
        # The bar stays on screen only when it is full, because an error must be the last thing to read.
        bar.live.transient = True
        yield watcher
        bar.live.transient = False
        watcher.finish()


@dataclass
class Board:
    """Draws one bar for all jobs of a table, from rows of envelope.progress. Other notices are printed above it."""

    bar: Progress

    def note(self, notice: str) -> None:
        if parse(notice) is None:
            _beside(self.bar, notice)

    def show(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        done, total = (sum(job[name] for job in jobs) for name in ("blocks_done", "blocks_total"))
        self.bar.update(self.bar.task_ids[0], completed=done, total=total or None, told=told(jobs))


def told(jobs: Sequence[Mapping[str, Any]]) -> str:
    """Returns rows, rate and remaining time of all jobs together, and what holds them up."""
    rate = sum(job["rows_per_second"] or 0 for job in jobs if job["state"] == "running")
    left = max((job["eta"] for job in jobs if job["eta"] is not None), default=None)
    held = sorted({job["state"] for job in jobs} - {"running", "done"})
    parts = [f"{sum(job['rows'] for job in jobs):,} rows"]
    parts += [f"{rate:,.0f} rows/s"] if rate else []
    parts += [f"{left} left"] if left and rate else []
    return ", ".join([*parts, *held])


@contextmanager
def board(table: str) -> Iterator[Board]:
    """Yields a Board that is on screen until the block ends."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    name = TextColumn("{task.description}", markup=False)
    parts = (name, BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[told]}", markup=False))
    with Progress(*parts, console=output.bars(), transient=True) as bar:
        bar.add_task(output.plain(table), total=None, told="")
        yield Board(bar)
