"""Normalisers: what they leave of a text, whatever it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope import errors
from pg_envelope.backend.search.normalize import newest
from pg_envelope.normalizers import KNOWN, normalizer
from pg_envelope.tokens import TOKEN_BYTES, TokenKey
from tests.vectors.check import normalized

NAMES = [*KNOWN, "last4/1", "last10/1", "prefix1/1", "prefix12/1"]


@pytest.mark.parametrize("name", NAMES)
@given(text=st.text())
def test_the_second_implementation_agrees(name: str, text: str) -> None:
    assert normalizer(name)(text) == normalized(name, text)


@pytest.mark.parametrize("name", NAMES)
@given(text=st.text())
def test_what_is_normalised_stays_as_it_is(name: str, text: str) -> None:
    once = normalizer(name)(text)
    assert normalizer(name)(once) == once


DATES = st.one_of(st.dates().map(str), st.datetimes().map(str), st.from_regex(r"[0-9]{1,6}-[0-9]{2}-[0-9]{2}( BC)?"))


@given(text=DATES)
def test_a_year_is_what_comes_before_the_month(text: str) -> None:
    year = normalizer("year/1")(text)
    assert year == normalized("year/1", text)
    assert normalizer("year/1")(year) == year


@given(text=DATES)
def test_a_month_is_what_comes_before_the_day(text: str) -> None:
    month = normalizer("month/1")(text)
    assert month == normalized("month/1", text)
    assert normalizer("month/1")(month) == month


@given(text=st.text(), count=st.integers(1, 12), more=st.integers(0, 9))
def test_a_prefix_finds_all_texts_that_begin_so(text: str, count: int, more: int) -> None:
    """Of composed texts, and of needles that are long enough."""
    composed = normalizer("casefold/1")(text)
    begin = composed[: count + more]
    if len(begin) >= count:
        prefix = normalizer(f"prefix{count}/1")
        assert prefix(begin) == prefix(composed)


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("1912-06-23", "1912"),
        ("0044-03-15 BC", "0044 BC"),
        ("12024-01-01 10:00:00.5", "12024"),
        ("0044-03-15 10:00:00+00 BC", "0044 BC"),
        ("infinity", "infinity"),
        ("-infinity", "-infinity"),
    ],
)
def test_years(text: str, year: str) -> None:
    assert normalizer("year/1")(text) == year


@pytest.mark.parametrize(
    "name", ["", "Exact", "last0", "last100", "last", "exact/1", "last4/2", "last04", "prefix", "prefix0"]
)
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(errors.BadInput):
        newest(name)


def test_the_worked_example_of_the_format() -> None:
    token = TokenKey(bytes(range(32))).token(b"a@b.c", "exact/1")
    assert token.hex() == "99336e9c9a443edb8de3e52198c2b127"


@given(st.binary(), st.binary())
def test_tokens_are_equal_for_equal_contents_only(one: bytes, other: bytes) -> None:
    key = TokenKey(bytes(32))
    assert len(key.token(one, "exact/1")) == TOKEN_BYTES
    assert (key.token(one, "exact/1") == key.token(other, "exact/1")) == (one == other)
    assert key.token(one, "exact/1") != key.token(one, "trim/1")


def test_a_token_key_seals_and_opens_nothing() -> None:
    key = TokenKey(bytes(32))
    for use in (key.seal, key.open):
        with pytest.raises(errors.NotPermitted):
            use(b"", b"")
