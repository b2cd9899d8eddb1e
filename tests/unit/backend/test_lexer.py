"""The tokens of SQL text are those of PostgreSQL's own scanner."""

from __future__ import annotations

import itertools

import pglast
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope.backend import lexer

PIECES = [
    "select", "É_1$x", "a", '"A ""b"""', "'it''s'", "E'\\''", "U&'\\0061'", 'U&"\\0061"', "b'01'", "$$ ' $$",
    "$a$ $$ $a$", "$1", "1.5e3", ".5", ".", ",", ";", "(", ")", "[", "::", "->>", "=", "-", "+", "*", "<=", "@-", "=-",
    "/* x */", "/* /* y */ */", "-- z\n", " ", "\t", "\n", "1", "0", "_", "e", "x1F", "5e", "..", ":", "!=", "<>", "?",
    "|", "/",
]  # fmt: skip


def scanned(text: str) -> list[tuple[int, int]]:
    """Where the tokens of PostgreSQL's scanner begin and end; comments are none."""
    found = pglast.parser.scan(text)
    return [(token.start, token.end + 1) for token in found if not token.name.endswith("COMMENT")]


def assert_same_tokens(text: str) -> None:
    try:
        wanted = [text[start:end] for start, end in scanned(text)]
    except pglast.parser.ParseError:
        return
    found = list(lexer.tokens(text))
    assert [token.text.lower() for token in found] == [one.lower() for one in wanted], text
    assert lexer.UNREAD not in {token.kind for token in found}


@given(st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join) | st.lists(st.sampled_from(PIECES)).map("".join))
def test_it_finds_the_tokens_of_the_scanner(text: str) -> None:
    assert_same_tokens(text)


def test_any_three_pieces_side_by_side_are_the_tokens_of_the_scanner() -> None:
    for pieces in itertools.product(PIECES, repeat=3):
        assert_same_tokens("".join(pieces))


@pytest.mark.parametrize("piece", ["-- ", "''", "\n--", "/*", "1.", "'a'\n", "$a$", "U&'"])
def test_long_texts_are_read_in_their_length(piece: str) -> None:
    assert list(lexer.tokens(f"'a' {piece * 20_000}"))


@pytest.mark.parametrize(
    "text", ["'open", '"open', "/* open", "/* /* open */", "$$ open", "$a$ open $$", "E'open\\'", '""']
)
def test_what_does_not_end_is_told(text: str) -> None:
    assert lexer.UNREAD in {token.kind for token in lexer.tokens(text)}


@given(st.text(alphabet="'\"\\$-/*abE \n\0é1.", max_size=40))
def test_any_text_is_read_to_its_end(text: str) -> None:
    assert sum(len(token.text) for token in lexer.tokens(text)) <= len(text)
