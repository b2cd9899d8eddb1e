"""Notices of a re-encryption, and its jobs as one bar."""

from __future__ import annotations

import io
from datetime import timedelta
from decimal import Decimal

import pytest
from rich.console import Console
from rich.progress import Progress

from pg_envelope_client.progress import Board, Step, Watcher, parse, told


@pytest.mark.parametrize(
    ("notice", "step"),
    [
        ("reencrypt: 10 of 40 blocks, 1000 rows re-encrypted", Step(10, 40, 1000)),
        ("reencrypt: 10 of 40 blocks, 1000 values re-encrypted", Step(10, 40, 1000)),
        ("pg_envelope: reencrypt: 1 of 1 block, 1 value re-encrypted", Step(1, 1, 1)),
        ("Reencrypt:  0 of 0 blocks", Step(0, 0, None)),
        ("rotate_kek: 400 of 10000 DEKs rewrapped", Step(400, 10_000, None)),
        ("rewrap: 1 of 2 DEKs rewrapped", Step(1, 2, None)),
        ("move_kek: 1 of 2 DEKs moved", Step(1, 2, None)),
        ("rotate_kek: KEK default: all DEKs have version 3; 9 were rewrapped", None),
        ("reencrypt: all values of v have the newest key version; 7 rows were re-encrypted", None),
        ("protect: 10 of 40 blocks", None),
        ("", None),
    ],
)
def test_parse(notice: str, step: Step | None) -> None:
    assert parse(notice) == step


def test_watcher_moves_the_bar_and_prints_the_rest() -> None:
    screen = io.StringIO()
    bar = Progress(console=Console(file=screen, width=120))
    bar.add_task("customer", total=None, rows="")
    watcher = Watcher(bar)
    watcher("reencrypt: 3 of 4 blocks, 2500 values re-encrypted")
    watcher("proof: no value under an [old] key\x1b[2J")
    assert (bar.tasks[0].completed, bar.tasks[0].total, bar.tasks[0].fields["rows"]) == (3, 4, "2,500 rows")
    assert watcher.last == Step(3, 4, 2500)
    watcher.finish()
    assert bar.finished
    assert "proof: no value under an [old] key?[2J" in screen.getvalue()


def job(**other: object) -> dict[str, object]:
    known = {
        "blocks_done": 1,
        "blocks_total": 4,
        "rows": 1500,
        "rows_per_second": None,
        "eta": None,
        "state": "running",
    }
    return {**known, **other}


@pytest.mark.parametrize(
    ("jobs", "text"),
    [
        ([], "0 rows"),
        ([job()], "1,500 rows"),
        (
            [job(rows_per_second=Decimal("1000.4"), eta=timedelta(seconds=90)), job(rows_per_second=Decimal(200))],
            "3,000 rows, 1,200 rows/s, 0:01:30 left",
        ),
        ([job(state="paused", rows_per_second=Decimal(5), eta=timedelta(1)), job(state="done")], "3,000 rows, paused"),
        ([job(state="failed"), job(state="aborted")], "3,000 rows, aborted, failed"),
    ],
)
def test_what_is_told_of_jobs(jobs: list[dict[str, object]], text: str) -> None:
    assert told(jobs) == text


def test_board_shows_all_jobs_as_one() -> None:
    screen = io.StringIO()
    bar = Progress(console=Console(file=screen, width=120))
    bar.add_task("customer", total=None, told="")
    board = Board(bar)
    board.show([job(), job(blocks_done=3)])
    board.note("reencrypt: 3 of 4 blocks, 2500 rows re-encrypted")
    board.note("reencrypt: waiting for pid 1")
    assert (bar.tasks[0].completed, bar.tasks[0].total) == (4, 8)
    assert "waiting for pid 1" in screen.getvalue()
    assert "of 4 blocks" not in screen.getvalue()
