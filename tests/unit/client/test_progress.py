"""Notices of a re-encryption."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from pg_envelope_client.progress import Step, Watcher, parse


@pytest.mark.parametrize(
    ("notice", "step"),
    [
        ("reencrypt: 10 of 40 blocks, 1000 rows re-encrypted", Step(10, 40, 1000)),
        ("reencrypt: 10 of 40 blocks, 1000 values re-encrypted", Step(10, 40, 1000)),
        ("pg_envelope: reencrypt: 1 of 1 block, 1 value re-encrypted", Step(1, 1, 1)),
        ("Reencrypt:  0 of 0 blocks", Step(0, 0, None)),
        ("rotate_kek: 400 of 10000 DEKs rewrapped", Step(400, 10_000, None)),
        ("rewrap: 1 of 2 DEKs rewrapped", Step(1, 2, None)),
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
