"""A destroyed key that reads as NULL knows whose it was, whatever the row key is made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope import errors
from pg_envelope.backend.erased import Erased, ErasedPlace
from pg_envelope.envelope import header

HEAD = header(1, False, 7)
texts = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=6) | st.sampled_from(
    ["", ":", "1:a", "2:ab", "10:", "é"]
)
rows = st.lists(texts, min_size=1, max_size=4)


def row_key(texts: list[str]) -> str:
    """As FORMAT.md section 1.1 has it."""
    return texts[0] if len(texts) == 1 else "".join(f"{len(text)}:{text}" for text in texts)


@given(rows, st.data(), texts)
def test_it_finds_its_own_rows_and_no_other(texts: list[str], data: st.DataObject, other: str) -> None:
    number = data.draw(st.integers(0, len(texts) - 1))
    place = ErasedPlace(texts[number], len(texts), number)
    assert place.has(row_key(texts))
    elsewhere = [*texts[:number], other, *texts[number + 1 :]]
    assert place.has(row_key(elsewhere)) == (other == texts[number])


@given(st.text(max_size=12), st.integers(2, 4), st.data())
def test_a_row_key_of_another_shape_is_nobodys(key: str, parts: int, data: st.DataObject) -> None:
    """The caller of envelope_internal.decrypt_text chooses it."""
    assert not ErasedPlace("\0", parts, data.draw(st.integers(0, parts - 1))).has(key.replace("\0", ""))


def test_the_key_of_a_whole_table_has_all_its_rows() -> None:
    assert ErasedPlace(None).has("1")


@pytest.mark.parametrize("head", [header(2, False, 7), header(1, True, 7), header(1, False, 8)])
def test_a_header_that_the_column_never_wrote_is_a_bad_envelope(head: bytes) -> None:
    place = Erased(HEAD, ErasedPlace("ann"), 0.0, "k")
    with pytest.raises(errors.InvalidEnvelope):
        place.open(head + bytes(40), b"ann")
    with pytest.raises(errors.InvalidEnvelope):
        place.open(HEAD + bytes(40), b"ben")
    assert place.open(HEAD + bytes(40), b"ann") is None  # type: ignore[func-returns-value]
