"""The ring: what one side writes the other reads, and no content of it harms the reader."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope import errors, ring


@pytest.fixture(scope="module")
def made() -> Iterator[tuple[int, mmap.mmap]]:
    descriptor, memory = ring.create()
    yield descriptor, memory
    os.close(descriptor)


def test_nobody_can_cut_a_ring_short(made: tuple[int, mmap.mmap]) -> None:
    for size in (0, ring.SIZE - 1, ring.SIZE + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(made[0], size)


def test_a_second_process_sees_what_was_written(made: tuple[int, mmap.mmap]) -> None:
    other = ring.attach(made[0])
    words = ring.words(made[1])
    ring.write(made[1], words, 1, b'{"a":1}')
    words[ring.slot(1) + ring.COUNT] += 5
    ring.add_row(made[1], words, 1, b"42")
    seen = ring.words(other)
    assert ring.read(other, seen, 1) == b'{"a":1}'
    assert seen[ring.slot(1) + ring.COUNT] == 5
    assert ring.rows(other, seen, 1) == ["42"]
    assert ring.id_of(other) == ring.id_of(made[1])
    words.release()


@pytest.mark.parametrize("size", [0, 1, ring.HEAD_BYTES, ring.SIZE - 1, ring.SIZE, ring.SIZE + 1])
def test_a_file_that_can_be_cut_short_is_refused(size: int) -> None:
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        with pytest.raises(errors.BadInput):
            ring.attach(file.fileno())
    descriptor = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    with pytest.raises(errors.BadInput):
        ring.attach(descriptor)
    os.close(descriptor)


def test_a_body_that_is_too_long_is_refused(made: tuple[int, mmap.mmap]) -> None:
    words = ring.words(made[1])
    published = words[ring.PUBLISHED]
    with pytest.raises(errors.ValueTooLong):
        ring.write(made[1], words, published + 1, bytes(ring.BODY_BYTES + 1))
    assert words[ring.PUBLISHED] == published


@given(seq=st.integers(1, 10_000), body=st.binary(max_size=ring.BODY_BYTES), keys=st.lists(st.text(), max_size=60))
def test_any_body_and_row_keys_come_back(made: tuple[int, mmap.mmap], seq: int, body: bytes, keys: list[str]) -> None:
    memory, words = made[1], ring.words(made[1])
    ring.write(memory, words, seq, body)
    for key in keys:
        ring.add_row(memory, words, seq, key.encode())
    listed = ring.rows(memory, words, seq)
    whole = [key.encode()[: ring.MOST_ROW_KEY_BYTES].decode(errors="replace") for key in keys]
    assert ring.read(memory, words, seq) == body
    assert listed == [key for key in whole if key in listed][: len(listed)]
    assert len(listed) == len(keys) or len(body) + sum(1 + len(key.encode()) for key in keys) > ring.BODY_BYTES - 65


@given(content=st.binary(min_size=ring.SLOT_BYTES, max_size=ring.SLOT_BYTES), seq=st.integers(1, 600))
def test_no_content_of_a_slot_harms_the_reader(made: tuple[int, mmap.mmap], content: bytes, seq: int) -> None:
    memory, words = made[1], ring.words(made[1])
    start = ring.slot(seq) * ring.WORD
    memory[start : start + ring.SLOT_BYTES] = content
    body = ring.read(memory, words, seq)
    assert body is None or len(body) <= ring.BODY_BYTES
    assert all(isinstance(key, str) for key in ring.rows(memory, words, seq))


def test_an_event_that_was_not_written_whole_is_not_read(made: tuple[int, mmap.mmap]) -> None:
    memory, words = made[1], ring.words(made[1])
    ring.write(memory, words, 7, b"whole")
    memory[ring.slot(7) * ring.WORD + ring.BODY_AT] ^= 1
    assert ring.read(memory, words, 7) is None
