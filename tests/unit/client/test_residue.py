"""The search of `pg-envelope residue` finds each value in each file, however often others are there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope_client.residue.needles import LONGEST, Needles
from pg_envelope_client.residue.search import Hit, search

LETTERS = st.text(st.characters(exclude_characters="\0\n", exclude_categories=["Cs"]), min_size=1, max_size=8)


def test_a_value_that_is_everywhere_hides_no_other(tmp_path: Path) -> None:
    """A segment of WAL is one file: what stands before the planted mark must not end the search."""
    file = tmp_path / "segment"
    file.write_bytes(b"everywhere\n" * 5000 + b"the mark\n")
    found = search([b"everywhere", b"the mark"], [tmp_path])
    assert found.hits == {Hit(file, b"everywhere"): 5000, Hit(file, b"the mark"): 1}
    assert found.unread == 0


@given(st.lists(LETTERS, max_size=30))
def test_each_value_is_counted_as_it_is(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    """As a plain search: values may hold any character that ends a line somewhere, but for \\n."""
    folder = tmp_path_factory.mktemp("files")
    wanted = [f"<{text}>".encode() for text in texts]
    (folder / "file").write_bytes(b"\n".join(wanted) + b"\n")
    assert search([*wanted, b"absent"], [folder]).hits == {
        Hit(folder / "file", needle): wanted.count(needle) for needle in wanted
    }


def test_many_files_that_are_not_there_and_many_values_do_not_block(tmp_path: Path) -> None:
    values = [f"value-{number}-{'x' * 190}".encode() for number in range(5000)]
    (tmp_path / "file").write_bytes(values[-1])
    gone = [tmp_path / f"gone-{number}-{'y' * 100}" for number in range(2000)]
    found = search(values, [*gone, tmp_path / "file"])
    assert found.hits == {Hit(tmp_path / "file", values[-1]): 1}
    assert found.unread == 0


def test_an_unreadable_file_is_counted(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert search([b"value"], [tmp_path / "loop"]).unread == 1


def test_values_that_toast_may_compress_are_named() -> None:
    needles = Needles()
    needles.add("note", ["short enough", "long enough" * 1000])
    needles.add("email", ["somebody@example.org"])
    assert needles.long == {"note": 1}
    assert [len(needle) for needle in needles.values] == [12, LONGEST, 20]
