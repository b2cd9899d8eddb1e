"""A search by grams finds each value that LIKE and ILIKE find: it has every gram of the pattern."""

from __future__ import annotations

import hmac
import re

from hypothesis import given
from hypothesis import strategies as st

from pg_envelope import grams
from pg_envelope.tokens import TokenKey

texts = st.text(st.sampled_from("abAB_%\\ İıIßẞΣςσée\u0301ﬁK\x02\x03") | st.characters(codec="utf-8"), max_size=12)


@st.composite
def found(draw: st.DrawFn) -> tuple[str, str]:
    """A text, and a pattern that LIKE finds it by."""
    text = draw(texts)
    how = draw(st.lists(st.sampled_from(["kept", "kept", "kept", "_", "%"]), min_size=len(text), max_size=len(text)))
    escaped = (re.sub(r"([\\%_])", r"\\\1", one) if to == "kept" else to for one, to in zip(text, how, strict=True))
    return text, "".join(escaped)


@given(found())
def test_each_text_that_like_finds_has_the_grams_of_the_pattern(pair: tuple[str, str]) -> None:
    text, pattern = pair
    assert grams.of_pattern(pattern) <= grams.of_text(grams.folded(text))


@given(found())
def test_case_does_not_count(pair: tuple[str, str]) -> None:
    text, pattern = pair
    lowered = "".join(one.lower() for one in text)
    assert grams.of_pattern(pattern) <= grams.of_text(grams.folded(lowered))


@given(texts, texts)
def test_the_fold_takes_each_character_for_itself(one: str, other: str) -> None:
    assert grams.folded(one + other) == grams.folded(one) + grams.folded(other)


def test_a_short_pattern_has_no_grams() -> None:
    assert [bool(grams.of_pattern(pattern)) for pattern in ("", "%", "%ab%", "a%", "%a_b%", r"%\%%")] == [False] * 6
    assert [bool(grams.of_pattern(pattern)) for pattern in ("ab%", "%ab", "a", r"%ab\%%")] == [True] * 4


def test_the_worked_example() -> None:
    key = bytes(range(32))
    runs = ("\x02ab", "ab\x03")
    expected = {hmac.digest(key, b"pg_envelope/1 gram\0match/1\0" + run.encode(), "sha256")[:4] for run in runs}
    made = TokenKey(key).grams(grams.of_text(grams.folded("Äb")), "match/1")
    assert made == sorted(int.from_bytes(gram, "big") for gram in expected)
