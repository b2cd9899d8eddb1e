"""Shares of the break-glass key: enough and more than enough, and which one is wrong, told without its words."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shamir_mnemonic.wordlist import WORDLIST

from pg_envelope_client.keys_backup import shares
from pg_envelope_client.keys_backup.shares import Pile
from pg_envelope_client.problems import Problem

SECRET = os.urandom(32)
FIVE = shares.split(SECRET, 3, 5)
OTHERS = shares.split(SECRET, 3, 5)


@given(st.lists(st.sampled_from(FIVE), min_size=3, max_size=5, unique=True))
@settings(max_examples=12)
def test_any_that_are_enough_or_more(chosen: list[str]) -> None:
    assert shares.combine(chosen) == SECRET
    assert shares.combine([f"  {words.upper()} " for words in chosen]) == SECRET


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few(count: int) -> None:
    with pytest.raises(Problem, match="do not make the key") as found:
        shares.combine(FIVE[:count])
    assert found.value.detail == f"{count} shares; {'3 are needed' if count else 'none was given'}"


@given(st.integers(0, 32), st.sampled_from(WORDLIST), st.integers(0, 4))
@settings(max_examples=5)
def test_one_wrong_word_is_found_and_no_word_repeated(place: int, other: str, number: int) -> None:
    words = FIVE[number].split()
    if words[place] == other:
        return
    words[place] = other
    pile = Pile()
    with pytest.raises(Problem, match="there is a slip in the third") as found:
        pile.add(" ".join(words), "the third")
    told = f"{found.value} {found.value.detail} {found.value.hint}"
    assert f"look at word {place + 1}" in told
    # The sentence has one word of its own that is also in the list.
    assert set(re.findall("[a-z]+", told)) & set(WORDLIST) <= {"wrote"}
    assert not pile.enough


@pytest.mark.parametrize(
    ("changed", "detail"),
    [
        (lambda words: [*words[:4], "zzzz", *words[5:7], "qqqq", *words[8:]], "no words of the list: word 5, word 8"),
        (lambda words: words[:-1], "it has 32 words, and should have 33"),
        (lambda words: [], "it has 0 words, and should have 33"),
        (lambda words: [*words, words[0]], "it has 34 words, and should have 33"),
        (
            lambda words: [*words[1:], words[0]],
            "its checksum does not fit; more than one word is wrong, or their order",
        ),
    ],
)
def test_other_slips(changed: object, detail: str) -> None:
    words = changed(FIVE[0].split())  # type: ignore[operator]
    with pytest.raises(Problem, match="a slip in share 2") as found:
        shares.combine([FIVE[1], " ".join(words)])
    assert found.value.detail == detail


def test_of_another_set_or_twice() -> None:
    with pytest.raises(Problem, match="share 2 and share 1 are of different sets"):
        shares.combine([FIVE[0], OTHERS[1], FIVE[2]])
    with pytest.raises(Problem, match="share 3 is the same share as share 1"):
        shares.combine([FIVE[0], FIVE[1], FIVE[0]])


def test_a_refused_share_leaves_the_others() -> None:
    pile = Pile()
    for words in FIVE[:2]:
        pile.add(words, "a share")
    for bad in (OTHERS[2], FIVE[0], "no such share"):
        with pytest.raises(Problem):
            pile.add(bad, "a bad one")
    assert not pile.enough
    pile.add(FIVE[4], "the last")
    assert pile.enough
    assert pile.key() == SECRET
