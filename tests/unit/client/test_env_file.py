"""A .env file: what is written comes back, and what programs read differently is refused by its line."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope_client import env_file
from pg_envelope_client.problems import Problem

PATH = Path(".env")
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\r\0")
NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True)
SINGLE = st.text(LETTERS.filter(lambda letter: letter != "'"))
BARE = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="'\"`$\\"), min_size=1)


def double(value: str) -> str:
    """The value in double quotes, with an escape wherever one may be needed."""
    escapes = {"\\": r"\\", '"': r"\"", "$": r"\$", "`": r"\`", "\n": r"\n", "\t": r"\t"}
    return '"' + "".join(escapes.get(letter, letter) for letter in value) + '"'


def pairs(text: str | bytes) -> dict[str, str]:
    content = text.encode() if isinstance(text, str) else text
    return {entry.name: entry.value for entry in env_file.read(content, PATH)}


WRITTEN = st.one_of(
    st.tuples(SINGLE, st.just("single")),
    st.tuples(st.text(LETTERS), st.just("double")),
    st.tuples(BARE, st.just("bare")),
)
FORMS = {"single": lambda value: f"'{value}'", "double": double, "bare": str}


@given(
    st.dictionaries(NAMES, WRITTEN, max_size=5),
    st.sampled_from(["", "export ", "  ", "\t"]),
    st.sampled_from(["", "  # a remark", " "]),
    st.sampled_from(["\n", "\r\n", "\n\n# a line of its own = 'not a value'\n"]),
)
def test_what_was_written_comes_back(entries: dict[str, tuple[str, str]], before: str, behind: str, end: str) -> None:
    text = "".join(f"{before}{name}={FORMS[form](value)}{behind}{end}" for name, (value, form) in entries.items())
    assert pairs(text) == {name: value for name, (value, _) in entries.items()}


@given(st.binary(max_size=60))
def test_anything_else_is_refused_and_never_repeated(content: bytes) -> None:
    try:
        pairs(content)
    except Problem as problem:
        said = problem.message.removeprefix(f"{PATH}").partition(" is there a second time")[0]
        assert said.startswith((", line ", " is not text"))


def test_lines_are_those_of_the_file() -> None:
    text = "\n# first\nONE=1\nTWO='a\nb\nc'\n\nTHREE=3"
    assert [(entry.first, entry.last, entry.name) for entry in env_file.read(text.encode(), PATH)] == [
        (3, 3, "ONE"),
        (4, 6, "TWO"),
        (8, 8, "THREE"),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A=$HOME", 1),
        ("A=1\nB=`id`", 2),
        ('A="${HOME}"', 1),
        ('A="$(id)"', 1),
        ("A=it's", 1),
        ('A="open', 1),
        ("A='x' y", 1),
        ("A=b\\c", 1),
        ('A="\\q"', 1),
        ("A", 1),
        ("=x", 1),
        ("A B=x", 1),
        ("1A=x", 1),
        ("A=1\n\nA=2", 3),
        ("\nÄ=1", 2),
    ],
)
def test_it_names_the_line(text: str, line: int) -> None:
    with pytest.raises(Problem, match=rf"\.env, line {line}: "):
        pairs(text)


@pytest.mark.parametrize("text", ["A={}", "A={}'", "{}", "{}'", "A{}'", "A={}#{}'", "export {}'", "A='x'{}'"])
def test_a_long_line_of_blanks_is_read_at_once(text: str) -> None:
    """With a pattern that goes back, this would take hours."""
    with suppress(Problem):
        pairs(text.replace("{}", " " * 500_000))
    with suppress(Problem):
        pairs(text.replace("{}", "x " * 250_000))


def test_empty_values_bom_and_hashes() -> None:
    assert pairs(b"\xef\xbb\xbfA=\nB= # remark\nC=a#b\nD=postgres://u:p@h/d?x=1&y=2 # x\nE=''") == {
        "A": "",
        "B": "",
        "C": "a#b",
        "D": "postgres://u:p@h/d?x=1&y=2",
        "E": "",
    }
