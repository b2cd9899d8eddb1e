"""Reads the last lines of a file of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOST_BYTES = 16 << 20


def is_cut(path: Path) -> bool:
    """Tells whether `last_lines` leaves older lines out. Raises OSError."""
    return path.stat().st_size > MOST_BYTES


def last_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the objects of at most 16 MB at the end. It passes over lines that are none. Raises OSError."""
    with open(path, "rb") as file:
        start = max(0, path.stat().st_size - MOST_BYTES)
        file.seek(start)
        if start:
            file.readline()
        for line in file:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                yield entry
