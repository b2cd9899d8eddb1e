"""Searches files for values by grep. The values go through a pipe, so that the search leaves none on a disk."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pg_envelope_client.problems import Problem

COMMAND = (
    "grep",
    "--recursive",
    "--text",
    "--only-matching",
    "--null",
    "--fixed-strings",
    "--devices=skip",
    # A value that is everywhere must not fill the memory.
    "--max-count=1000",
    "--file=-",
)
# In the C locale bytes are bytes, and messages are in English.
ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath}


class Hit(NamedTuple):
    """One occurrence of a value."""

    path: Path
    needle: bytes


class SearchedFiles(NamedTuple):
    """What was found, and how many files could not be read."""

    hits: list[Hit]
    unread: int


def search(needles: Sequence[bytes], roots: Sequence[Path]) -> SearchedFiles:
    """Raises Problem when there is no grep."""
    try:
        done = subprocess.run(  # noqa: S603
            [*COMMAND, "--", *map(str, roots)],
            input=b"\n".join(needles) + b"\n",
            capture_output=True,
            env=ENVIRONMENT,
            check=False,
        )
    except FileNotFoundError:
        raise Problem("there is no grep on this machine") from None
    unread = sum(b"No such file" not in line for line in done.stderr.splitlines())
    return SearchedFiles(list(_hits(done.stdout)), unread)


def _hits(out: bytes) -> Iterator[Hit]:
    for line in out.splitlines():
        path, _, needle = line.partition(b"\0")
        yield Hit(Path(os.fsdecode(path)), needle)
