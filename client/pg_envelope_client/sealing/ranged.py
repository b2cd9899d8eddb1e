"""Reads a stored file from any place on, where the store gives ranges of bytes: a table's rows, or an object of S3."""

from __future__ import annotations

import io
import os
from collections.abc import Callable


class SeekableReader(io.RawIOBase):
    """A file of `size` bytes that can be read from any place on."""

    size: int
    _place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self.size}[whence]
        if place < 0:
            raise ValueError("negative seek position")
        self._place = place
        return place


class RangedFile(SeekableReader):
    """Is read by `fetch(start, count)`, which returns exactly these bytes."""

    def __init__(self, size: int, fetch: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self.size, self._fetch = size, fetch

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        count = max(0, min(len(view), self.size - self._place))
        if count:
            view[:count] = self._fetch(self._place, count)
            self._place += count
        return count
