"""Reads a tenant or subject from a file: on a command line, other users of the machine would see the name."""

from __future__ import annotations

import sys
from pathlib import Path

from pg_envelope_client.problems import usage

STANDARD_INPUT = "-"


def read(file: str) -> str:
    """Returns the one line of a file, or of standard input. Raises Problem when there is none, or more."""
    text = sys.stdin.read() if file == STANDARD_INPUT else Path(file).read_text()
    subject = text.removesuffix("\n")
    if not subject or "\n" in subject:
        raise usage("a subject is one line of text")
    return subject
