"""Sealed files: any size, from any place, and nothing moved, cut or appended."""

from __future__ import annotations

import io
import os
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pg_envelope import errors
from pg_envelope_client import SealedReader, open_file, reseal_file, seal_file
from pg_envelope_client.sealing.file_header import BLOCK
from pg_envelope_client.sealing.files import CHUNK, SEALED_CHUNK
from tests.integration.sealing.fix_door import DoorOfTests
from tests.vectors.local import local_key

KEY = local_key()
EDGES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1, 3 * CHUNK]
SIZES = st.integers(0, 3 * CHUNK + 3) | st.sampled_from(EDGES)
PATTERN = os.urandom(4 * CHUNK)
BIG = 64 << 20


def sealed(content: bytes, context: str = "", **about: Any) -> bytes:
    target = io.BytesIO()
    seal_file(KEY, io.BytesIO(content), target, context, **about)
    return target.getvalue()


def opened(file: bytes, context: str = "") -> bytes:
    target = io.BytesIO()
    open_file(KEY, io.BytesIO(file), target, context)
    return target.getvalue()


def read(file: bytes, context: str = "") -> bytes:
    with SealedReader(KEY, io.BytesIO(file), context) as reader:
        return reader.read()


@given(SIZES)
@example(0)
def test_what_is_sealed_comes_back(size: int) -> None:
    content = PATTERN[:size]
    file = sealed(content)
    assert opened(file) == read(file) == content
    assert len(file) == BLOCK + size + 16 * max(1, -(-size // CHUNK))


class Dribble(io.RawIOBase):
    """A pipe that gives a few bytes at a time."""

    def __init__(self, content: bytes, step: int) -> None:
        super().__init__()
        self._content, self._step = io.BytesIO(content), step

    def read(self, size: int = -1) -> bytes:
        return self._content.read(min(size, self._step))


@pytest.mark.parametrize("step", [1, 7, CHUNK - 1, CHUNK + 1])
def test_through_a_pipe(step: int) -> None:
    content = PATTERN[: CHUNK + 9] if step > 9 else PATTERN[:900]
    target: Any = io.BytesIO()
    seal_file(KEY, Dribble(content, step), target)  # type: ignore[arg-type]
    back = io.BytesIO()
    open_file(KEY, Dribble(target.getvalue(), step), back)  # type: ignore[arg-type]
    assert back.getvalue() == content


@given(SIZES, st.data())
def test_a_reader_is_like_a_plain_file(size: int, data: st.DataObject) -> None:
    content = PATTERN[:size]
    reader, plain = SealedReader(KEY, io.BytesIO(sealed(content))), io.BytesIO(content)
    assert reader.size == size
    for _ in range(6):
        whence = data.draw(st.sampled_from([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END]))
        behind = {os.SEEK_SET: 0, os.SEEK_CUR: plain.tell(), os.SEEK_END: size}[whence]
        place = data.draw(st.integers(-behind, size + 9))
        assert reader.seek(place, whence) == plain.seek(place, whence)
        count = data.draw(st.integers(1, 2 * CHUNK))
        assert b"".join(iter(lambda: reader.read(CHUNK), b""))[:count] == plain.read(count)
        reader.seek(plain.tell())
    with pytest.raises(ValueError, match="negative"):
        reader.seek(-1)


def test_a_range_opens_only_its_chunks_and_the_last() -> None:
    file = bytearray(sealed(PATTERN))
    file[BLOCK + SEALED_CHUNK + 5] ^= 1
    reader = SealedReader(KEY, io.BytesIO(bytes(file)))
    reader.seek(2 * CHUNK + 10)
    assert reader.read(100) == PATTERN[2 * CHUNK + 10 : 2 * CHUNK + 110]
    reader.seek(CHUNK)
    with pytest.raises(errors.InvalidEnvelope):
        reader.read(1)


FULL = sealed(PATTERN[: 2 * CHUNK + 100], "ctx")
SHORT = sealed(b"content", "ctx")
ONE, TWO = BLOCK + SEALED_CHUNK, BLOCK + 2 * SEALED_CHUNK
DAMAGED = {
    "cut in a chunk": FULL[:-1],
    "cut at a chunk": FULL[:TWO],
    "cut to the header": FULL[:BLOCK],
    "cut in the header": FULL[:100],
    "nothing": b"",
    "a byte more": FULL + b"x",
    "a chunk more": FULL + FULL[BLOCK:ONE],
    "another file's end": FULL + SHORT[BLOCK:],
    "chunks swapped": FULL[:BLOCK] + FULL[ONE:TWO] + FULL[BLOCK:ONE] + FULL[TWO:],
    "a chunk missing": FULL[:BLOCK] + FULL[ONE:],
    "a chunk twice": FULL[:ONE] + FULL[BLOCK:],
    "another file's chunks": FULL[:BLOCK] + SHORT[BLOCK:],
    "another header": SHORT[:BLOCK] + FULL[BLOCK:],
    "a byte behind the envelope": FULL[: BLOCK - 1] + b"x" + FULL[BLOCK:],
    "plain": b"just a file that nobody sealed" * 100,
    "a huge length": FULL[:8] + b"\xff\xff\xff\xff" + FULL[12:],
}


@pytest.mark.parametrize("what", DAMAGED)
def test_damage_is_one_error(what: str) -> None:
    for way in (opened, read):
        with pytest.raises(errors.InvalidEnvelope):
            way(DAMAGED[what], "ctx")


@given(st.integers(0, len(SHORT) - 1), st.integers(1, 255))
def test_no_byte_can_be_altered(place: int, mask: int) -> None:
    altered = SHORT[:place] + bytes([SHORT[place] ^ mask]) + SHORT[place + 1 :]
    for way in (opened, read):
        with pytest.raises(errors.InvalidEnvelope):
            way(altered, "ctx")


def test_name_type_and_context() -> None:
    file = sealed(b"x", "inbox/7", name="Zoë 🦉.txt", media_type="text/plain")
    reader = SealedReader(KEY, io.BytesIO(file), "inbox/7")
    assert (reader.name, reader.media_type) == ("Zoë 🦉.txt", "text/plain")
    assert "Zoë".encode() not in file
    with pytest.raises(errors.InvalidEnvelope):
        read(file, "inbox/8")
    with pytest.raises(errors.InvalidEnvelope):
        SealedReader(local_key(content=bytes(31) + b"x"), io.BytesIO(file), "inbox/7")
    for name in ("x" * 70_000, "\ud800"):
        with pytest.raises(errors.BadInput):
            sealed(b"x", name=name)


def test_a_rotation_writes_the_header_only(door: DoorOfTests) -> None:
    db = door.db
    db.sql("SELECT envelope.create_key('files')")
    door.allow(db.one("SELECT envelope.grant_client_key('files', 'alice')"))
    client = door.client()
    key = client.named("files")
    file: Any = io.BytesIO()
    seal_file(key, io.BytesIO(PATTERN), file, "a")
    before = file.getvalue()
    assert reseal_file(key, file, "a") is False
    db.sql("SELECT envelope.rotate_key('files')")
    client.refresh()
    assert reseal_file(key, file, "a") is True
    after = file.getvalue()
    assert (before[BLOCK:], before[12:18] != after[12:18], len(before)) == (after[BLOCK:], True, len(after))
    assert reseal_file(key, file, "a", to="moved") is True
    assert SealedReader(key, file, "moved").read() == PATTERN
    with pytest.raises(errors.InvalidEnvelope):
        SealedReader(key, file, "a")


class Endless(io.RawIOBase):
    """`left` bytes that nobody has stored."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self._left = left

    def read(self, size: int = -1) -> bytes:
        found = min(size, self._left)
        self._left -= found
        return bytes(found)


def peak_of(step: Callable[[], object]) -> int:
    """Returns the most bytes that Python holds at once while `step` runs."""
    tracemalloc.start()
    try:
        step()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed file of 64 MiB."""
    path = tmp_path_factory.mktemp("big") / "file"
    with path.open("wb") as target:
        seal_file(KEY, Endless(BIG), target)  # type: ignore[arg-type]
    return path


def test_memory_does_not_grow_with_the_file_that_is_sealed() -> None:
    with open(os.devnull, "wb") as nowhere:
        seal_file(KEY, Endless(CHUNK), nowhere)  # type: ignore[arg-type]
        assert peak_of(lambda: seal_file(KEY, Endless(BIG), nowhere)) < 10 * CHUNK  # type: ignore[arg-type]


def test_memory_does_not_grow_with_the_file_that_is_opened(big: Path) -> None:
    with big.open("rb") as source, open(os.devnull, "wb") as nowhere:
        assert peak_of(lambda: open_file(KEY, source, nowhere)) < 10 * CHUNK


def test_memory_does_not_grow_with_the_file_that_is_read(big: Path) -> None:
    def read_all(count: int) -> int:
        reader = SealedReader(KEY, source)
        return sum(len(part) for part in iter(lambda: reader.read(count), b""))

    def read_here_and_there() -> None:
        reader = SealedReader(KEY, source)
        for place in range(0, BIG, BIG // 99):
            reader.seek(place)
            reader.read(9)

    with big.open("rb") as source:
        for count in (1000, CHUNK, CHUNK + 1):
            assert peak_of(lambda count=count: read_all(count)) < 10 * CHUNK
        assert read_all(CHUNK) == BIG
        assert peak_of(read_here_and_there) < 10 * CHUNK


def test_the_command(door: DoorOfTests, tmp_path: Path) -> None:
    db = door.db
    db.sql("SELECT envelope.create_key('files')")
    door.allow(db.one("SELECT envelope.grant_client_key('files', 'alice')"))
    environment = {
        **os.environ,
        **db.stack.environ(),
        "PGDATABASE": db.name,
        "PGUSER": "alice",
        "PG_ENVELOPE_BROKER": f"tls://{door.address}",
        "PG_ENVELOPE_CERTIFICATE": str(door.certificate),
        "PG_ENVELOPE_CERTIFICATE_KEY": str(door.certificate.with_suffix(".key")),
        "PG_ENVELOPE_CA_FILE": str(door.directory / "ca.pem"),
    }

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [door.broker.venv / "bin/pg-envelope", *words, "--key", "files"]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    original, target = tmp_path / "report.pdf", tmp_path / "report.pdf.sealed"
    original.write_bytes(PATTERN)
    done = run("seal", "report.pdf", "--context", "inbox")
    assert (done.returncode, target.exists()) == (0, True), done.stderr
    assert (oct(target.stat().st_mode & 0o777), PATTERN[:100] in target.read_bytes()) == ("0o600", False)
    assert run("open", "report.pdf.sealed", "--context", "inbox").returncode == 2, "nothing is overwritten"
    assert run("open", "report.pdf.sealed", "--context", "inbox", "--out", "back.pdf").returncode == 0
    assert (tmp_path / "back.pdf").read_bytes() == PATTERN
    target.write_bytes(target.read_bytes()[:-1])
    for words in (["--context", "inbox"], ["--context", "other"]):
        failed = run("open", "report.pdf.sealed", *words, "--out", "cut.pdf")
        assert (failed.returncode, "cannot be opened" in failed.stderr) == (1, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.pdf", "report.pdf", "report.pdf.sealed"]
    assert run("open", "back.pdf").returncode == 2
