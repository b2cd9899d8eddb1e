"""Answers an HTTP request with a sealed file, whole or a range of it, in any web framework."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pg_envelope_client.sealing.files import CHUNK, SealedReader

RANGE = re.compile(r"bytes=([0-9]{1,18})?-([0-9]{1,18})?\Z")


def parts(reader: SealedReader, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """Yields the content from `start` to before `stop`: the body of StreamingResponse. Raises InvalidEnvelope."""
    place, end = start, reader.size if stop is None else min(stop, reader.size)
    while place < end:
        reader.seek(place)
        part = reader.read(min(CHUNK - place % CHUNK, end - place)) or b""
        place += len(part)
        yield part


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Reads a Range header (RFC 9110) of one range. Returns start and stop, or None for the whole file.

    Raises ValueError for a range outside of the file: the answer is 416.
    """
    found = RANGE.match((header or "").replace(" ", ""))
    if not found or found[1] is found[2] is None:
        return None
    if found[1] is None:
        start, stop = max(0, size - int(found[2])), size
    else:
        start, stop = int(found[1]), size if found[2] is None else min(size, int(found[2]) + 1)
    if start >= stop:
        raise ValueError("the range is outside of the file")
    return start, stop
