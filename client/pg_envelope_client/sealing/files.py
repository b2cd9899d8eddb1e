"""Seals files of any size in chunks, and opens them from any place on: FORMAT.md section 10."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import IO

from pg_envelope import errors
from pg_envelope.aeads import AESGCM
from pg_envelope.suites import REFUSALS, TAG_BYTES
from pg_envelope_client.sealing import file_header
from pg_envelope_client.sealing.client import NamedKey
from pg_envelope_client.sealing.file_header import AboutFile, FileHeader, read_whole
from pg_envelope_client.sealing.ranged import SeekableReader

CHUNK = 1 << 16
SEALED_CHUNK = CHUNK + TAG_BYTES
# AES-GCM allows 2^32 messages under one key.
MOST_CHUNKS = 1 << 32


class Chunks:
    """The chunks of one file, each sealed under its number and under whether it is the last one.

    `bound` is what each chunk is tied to besides, such as the hash of a header in the clear.
    """

    def __init__(self, file_key: bytes, bound: bytes | None = None) -> None:
        self._aead, self._bound = AESGCM(file_key), bound

    def seal(self, number: int, last: bool, content: bytes) -> bytes:
        if number >= MOST_CHUNKS:
            raise errors.ValueTooLong("the file is too long to be sealed", detail="at most 256 TiB")
        return self._aead.encrypt(_nonce(number, last), content, self._bound)

    def open(self, number: int, last: bool, sealed: bytes) -> bytes:
        """Raises InvalidEnvelope for a chunk that was altered, moved, cut, or is not the last one."""
        try:
            content = self._aead.decrypt(_nonce(number, last), sealed, self._bound)
        except REFUSALS:
            raise errors.InvalidEnvelope from None
        # Only an empty file has an empty chunk.
        if not content and number:
            raise errors.InvalidEnvelope
        return content

    def seal_all(self, source: IO[bytes], target: IO[bytes], ended: Callable[[], None] = lambda: None) -> None:
        """Seals all that `source` has. `ended` is called before the last chunk is made, and may raise."""
        number, present = 0, read_whole(source, CHUNK)
        while following := read_whole(source, CHUNK):
            target.write(self.seal(number, False, present))
            number, present = number + 1, following
        ended()
        target.write(self.seal(number, True, present))

    def open_all(self, source: IO[bytes], target: IO[bytes]) -> None:
        """Opens all that `source` has. What was written is whole only when it returns. Raises InvalidEnvelope."""
        number, present = 0, read_whole(source, SEALED_CHUNK)
        while following := read_whole(source, SEALED_CHUNK):
            target.write(self.open(number, False, present))
            number, present = number + 1, following
        target.write(self.open(number, True, present))


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes((last,))


def seal_file(
    key: NamedKey,
    source: IO[bytes],
    target: IO[bytes],
    context: str = "",
    *,
    name: str | None = None,
    media_type: str | None = None,
) -> None:
    """Writes a sealed copy of `source`. `name` and `media_type` are sealed in its header.

    It holds a few chunks of 64 KiB in memory, whatever the file's size. `context` names the file, such as its path in a
    store: it opens with the same context only.
    """
    header = FileHeader.make(AboutFile(name, media_type))
    target.write(header.sealed(key, context))
    Chunks(header.file_key).seal_all(source, target)


def open_file(key: NamedKey, source: IO[bytes], target: IO[bytes], context: str = "") -> AboutFile:
    """Writes the content of a sealed file, and returns its name and media type. `source` may be a pipe.

    Raises InvalidEnvelope. Until it returns, what it has written may be the beginning of a file that was cut.
    """
    header, _ = file_header.read(source, key, context)
    Chunks(header.file_key).open_all(source, target)
    return header.about


def reseal_file(key: NamedKey, file: IO[bytes], context: str = "", *, to: str | None = None) -> bool:
    """Seals the header of a file anew, in place, under the key that is active now, and for the context `to`.

    The content stays as it is. Returns False when the header already has that key. Raises Unsupported, and changes
    nothing, when the new header is longer than the old one.
    """
    file.seek(0)
    header, size = file_header.read(file, key, context)
    sealed = header.sealed(key, context if to is None else to)
    if len(sealed) != size:
        raise errors.Unsupported("the new header does not fit in the place of the old one", hint="Seal the file again.")
    file.seek(file_header.PREFIX_BYTES)
    if to is None and read_whole(file, 6) == sealed[file_header.PREFIX_BYTES :][:6]:
        return False
    file.seek(0)
    file.write(sealed)
    return True


class SealedReader(SeekableReader):
    """Reads the content of a sealed file from any place on. `file` must be seekable.

    It opens the last chunk first: so it knows the size, and that nothing was cut off or appended. Raises
    InvalidEnvelope where a chunk does not open.
    """

    def __init__(self, key: NamedKey, file: IO[bytes], context: str = "") -> None:
        super().__init__()
        self._file = file
        file.seek(0)
        header, self._start = file_header.read(file, key, context)
        self.name, self.media_type = header.about
        self._chunks = Chunks(header.file_key)
        sealed = file.seek(0, os.SEEK_END) - self._start
        self._last = max(0, -(-sealed // SEALED_CHUNK) - 1)
        self._number, self._content = -1, b""
        self.size = self._last * CHUNK + len(self._chunk(self._last))

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        if self._place >= self.size or not view:
            return 0
        number, offset = divmod(self._place, CHUNK)
        part = self._chunk(number)[offset : offset + len(view)]
        view[: len(part)] = part
        self._place += len(part)
        return len(part)

    def _chunk(self, number: int) -> bytes:
        if number != self._number:
            self._file.seek(self._start + number * SEALED_CHUNK)
            sealed = read_whole(self._file, SEALED_CHUNK)
            self._content = self._chunks.open(number, number == self._last, sealed)
            self._number = number
        return self._content
