"""Brings SQL text into one form, in which patterns can find what a command names.

It follows section 4.1 of PostgreSQL's manual, and knows no grammar. What it reads decides only which tables exchange
names for a while, so a text that it misreads leaves a command without that help, and harms nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

TOKEN = re.compile(
    r"""(?P<skipped>\s+|--[^\n]*)
    |(?P<comment>/\*)
    |(?P<literal>[eE]'(?:[^'\\]|''|\\.)*'|(?:[bBxXnN]|[uU]&)?'(?:[^']|'')*'|\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$)
    |(?P<escaped>[uU]&"(?:[^"]|"")*")
    |(?P<quoted>"(?:[^"]|"")+")
    |(?P<word>[^\W\d][\w$]*)
    |(?P<other>\d[\w.]*|::|.)""",
    re.VERBOSE | re.DOTALL,
)
COMMENT_MARK = re.compile(r"/\*|\*/")
# The case of letters beyond ASCII counts, as PostgreSQL has it in UTF-8.
UPPER = str.maketrans({chr(letter): chr(letter).lower() for letter in range(ord("A"), ord("Z") + 1)})
# In the place of a literal, and of a name in Unicode escapes.
LITERAL = "''"


def statements(text: str) -> Iterator[str]:
    """Yields each statement with one space after every token: words in lower case, names quoted as they are, and ''
    for each literal.
    """
    found: list[str] = []
    for one in _tokens(text):
        if one == ";":
            yield _joined(found)
            found = []
        else:
            found.append(one)
    yield _joined(found)


def parts(statement: str) -> list[str]:
    """Splits a piece of a statement at the commas outside of parentheses."""
    found: list[list[str]] = [[]]
    depth = 0
    for one in tokens(statement):
        depth += {"(": 1, ")": -1}.get(one, 0)
        if one == "," and depth == 0:
            found.append([])
        else:
            found[-1].append(one)
    return [_joined(part) for part in found]


def tokens(statement: str) -> list[str]:
    """Returns the tokens of a statement in that form."""
    return re.findall(r'"(?:[^"]|"")*"|[^" ]+', statement)


def unquoted(token: str) -> str:
    """Returns the name that a word or a quoted name stands for."""
    return token[1:-1].replace('""', '"') if token.startswith('"') else token


def _joined(found: Iterable[str]) -> str:
    return "".join(f"{token} " for token in found)


def _tokens(text: str) -> Iterator[str]:
    place = 0
    while found := TOKEN.match(text, place):
        place = _comment_end(text, found.end()) if found["comment"] else found.end()
        if found["word"]:
            yield found["word"].translate(UPPER)
        elif found["literal"] or found["escaped"]:
            yield LITERAL
        elif found["quoted"] or found["other"]:
            yield found[0]


def _comment_end(text: str, place: int) -> int:
    """Returns the place behind a comment, in which others may lie."""
    depth = 1
    for mark in COMMENT_MARK.finditer(text, place):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(text)
