"""Brings SQL text into one form, in which patterns can find what a command names.

What is read decides only which tables exchange names for a while. So a text that is misread leaves a command without
that help, and harms nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from pg_envelope.backend import lexer
from pg_envelope.backend.lexer import LITERALS, UNICODE_NAME, SqlToken

# In the place of a literal, and of a name in Unicode escapes.
LITERAL = "''"


def statements(text: str) -> Iterator[str]:
    """Yields each statement with one space after every token: words in lower case, names quoted as they are, and ''
    for each literal.
    """
    found: list[str] = []
    for one in map(_form, lexer.tokens(text)):
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
    return lexer.unquoted(token) if token.startswith('"') else token


def _joined(found: Iterable[str]) -> str:
    return "".join(f"{token} " for token in found)


def _form(token: SqlToken) -> str:
    return LITERAL if token.kind in LITERALS or token.kind == UNICODE_NAME else token.text
