"""Searches files for values by grep. The values go through a pipe, so that the search leaves none on a disk."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from pg_envelope_client.problems import Problem

COMMAND = (
    "grep",
    "--recursive",
    "--text",
    "--only-matching",
    "--null",
    "--fixed-strings",
    "--devices=skip",
    "--file=-",
)
# In the C locale bytes are bytes, and messages are in English.
ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath}


class Hit(NamedTuple):
    """A value that is in a file."""

    path: Path
    needle: bytes


class SearchedFiles(NamedTuple):
    """What was found how often, and how many files could not be read."""

    hits: Counter[Hit]
    unread: int


def search(needles: Sequence[bytes], roots: Sequence[Path]) -> SearchedFiles:
    """Raises Problem when there is no grep."""
    # Errors go to a file: they name files and no values, and nobody reads them while grep runs.
    with tempfile.TemporaryFile() as told:
        hits = _searched(needles, [*COMMAND, "--", *map(str, roots)], told)
        told.seek(0)
        return SearchedFiles(hits, sum(b"No such file" not in line for line in told))


def _searched(needles: Sequence[bytes], command: Sequence[str], told: IO[bytes]) -> Counter[Hit]:
    """Counts while grep runs: a value that is everywhere does not fill the memory, and hides nothing behind it."""
    try:
        grep = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=told, env=ENVIRONMENT
        )
    except FileNotFoundError:
        raise Problem("there is no grep on this machine") from None
    with grep:
        _give(grep.stdin, needles)
        return Counter(_hits(grep.stdout or ()))


def _give(pipe: IO[bytes] | None, needles: Sequence[bytes]) -> None:
    """grep reads all of it before it searches. If it ends before, the planted mark is not found."""
    if pipe is not None:
        with suppress(BrokenPipeError), pipe:
            pipe.write(b"\n".join(needles) + b"\n")


def _hits(out: Iterable[bytes]) -> Iterator[Hit]:
    for line in out:
        path, _, needle = line.removesuffix(b"\n").partition(b"\0")
        yield Hit(Path(os.fsdecode(path)), needle)
