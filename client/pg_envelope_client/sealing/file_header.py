"""Reads and writes the header of a sealed file: FORMAT.md section 10.1."""

from __future__ import annotations

import json
import os
from typing import IO, NamedTuple

from pg_envelope import errors
from pg_envelope.suites import KEY_BYTES
from pg_envelope_client.sealing import types
from pg_envelope_client.sealing.client import NamedKey
from pg_envelope_client.sealing.layout import place

MAGIC = b"pgenvf1\n"
LENGTH_BYTES = 4
PREFIX_BYTES = len(MAGIC) + LENGTH_BYTES
# The header fills whole blocks, so that another key's envelope fits in its place.
BLOCK = 512
MOST_ENVELOPE = 1 << 16
MEMBERS = ("name", "type")


class AboutFile(NamedTuple):
    """What its owner says of a file."""

    name: str | None
    media_type: str | None


class FileHeader(NamedTuple):
    """The file's own key (32 bytes), and what its owner says of it."""

    file_key: bytes
    about: AboutFile

    @classmethod
    def make(cls, about: AboutFile) -> FileHeader:
        """Draws a new file key. Raises BadInput for a name or type that is no text."""
        for text in about:
            if text is not None:
                types.text(text)
        return cls(os.urandom(KEY_BYTES), about)

    def sealed(self, key: NamedKey, context: str) -> bytes:
        """Returns the bytes of the header. Raises BadInput when name and type are too long."""
        told = dict(zip(MEMBERS, self.about, strict=True))
        try:
            about = json.dumps({member: text for member, text in told.items() if text is not None}, ensure_ascii=False)
            envelope = key.seal(self.file_key + about.encode(), row_key(context))
        except UnicodeEncodeError:
            raise errors.BadInput("the file's name or type cannot be written in UTF-8") from None
        if envelope is None or len(envelope) > MOST_ENVELOPE:
            raise errors.BadInput("the file's name and type are too long")
        written = MAGIC + len(envelope).to_bytes(LENGTH_BYTES, "big") + envelope
        return written.ljust(size_of(len(envelope)), b"\0")


def row_key(context: str) -> str:
    """Ties the header to the use for files, and to the caller's context. Raises BadInput."""
    return place("file", context)


def size_of(envelope_bytes: int) -> int:
    """Returns the length of a header: its chunks begin there."""
    return -(-(PREFIX_BYTES + envelope_bytes) // BLOCK) * BLOCK


def read(source: IO[bytes], key: NamedKey, context: str) -> tuple[FileHeader, int]:
    """Reads the header at the beginning of a file, and returns it with its length. Raises InvalidEnvelope."""
    prefix = read_whole(source, PREFIX_BYTES)
    length = int.from_bytes(prefix[len(MAGIC) :], "big")
    if not prefix.startswith(MAGIC) or len(prefix) < PREFIX_BYTES or length > MOST_ENVELOPE:
        raise errors.InvalidEnvelope
    size = size_of(length)
    rest = read_whole(source, size - PREFIX_BYTES)
    if len(rest) != size - PREFIX_BYTES or rest[length:].strip(b"\0"):
        raise errors.InvalidEnvelope
    return _opened(key.open_bytes(rest[:length], row_key(context))), size


def _opened(content: bytes | None) -> FileHeader:
    try:
        if content is None or len(content) < KEY_BYTES:
            raise ValueError
        about = json.loads(content[KEY_BYTES:].decode())
        texts = [about.get(member) for member in MEMBERS]
    except (ValueError, AttributeError):
        raise errors.InvalidEnvelope from None
    name, media_type = (text if isinstance(text, str) else None for text in texts)
    return FileHeader(content[:KEY_BYTES], AboutFile(name, media_type))


def read_whole(source: IO[bytes], count: int) -> bytes:
    """Reads so many bytes, or fewer at the end of the file. A pipe gives what it has, so it is asked again."""
    found = source.read(count) or b""
    if len(found) in (0, count):
        return found
    parts, missing = [found], count - len(found)
    while missing and (part := source.read(missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
