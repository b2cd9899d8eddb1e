"""Finds out whether an INSERT into a view says ON CONFLICT DO NOTHING. PostgreSQL does not tell a view's trigger.

It reads the text of the client's statement. Wherever that text leaves a doubt, the answer is no: then a conflict is an
error, and no row is dropped without a word.
"""

from __future__ import annotations

import re

from pg_envelope.backend.statement import Statement, calling

# Comments of one level only: a comment inside another is a doubt, so no other sign begins one.
TOKEN = re.compile(
    r"""
    (?P<skipped> \s+ | --[^\r\n]* | /\*(?:(?!/\*).)*?\*/ )
  | (?P<escaped> [eE]'(?:[^'\\]|\\.|'')*' )
  | (?P<string> (?:[uU]&|[bBxXnN])?'(?:[^']|'')*' )
  | (?P<dollar> \$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$ )
  | (?P<quoted> (?:[uU]&)?"(?:[^"]|"")+" )
  | (?P<word> [^\W\d][\w$]* )
  | (?P<number> \.?\d[\w.]* | \$\d+ )
  | (?P<other> (?!/\*)[^'"$\w] )
    """,
    re.VERBOSE | re.DOTALL,
)
KEPT = frozenset(("quoted", "word", "other"))
DO_NOTHING = ["on", "conflict", "do", "nothing"]


class SoftInserts:
    """Remembers the one INSERT of the client that is soft, and its view."""

    def __init__(self) -> None:
        self._noted: tuple[int, Statement] | None = None

    def note(self, view: int, name: str, context: str, query: str) -> None:
        """Called as an INSERT begins. `context` has a line for each function and statement that led here, and the
        trigger's own. The statement of a function cannot be read, and may look the same as the client's.
        """
        begun = view, calling()[0]
        if "\n" not in context and says_do_nothing(query, name):
            self._noted = begun
        elif self._noted == begun:
            self._noted = None

    def is_soft(self, view: int) -> bool:
        """Tells whether the calling statement inserts softly into the view."""
        return self._noted is not None and self._noted == (view, calling()[0])


def says_do_nothing(query: str, view: str) -> bool:
    """Tells whether the text has one INSERT, into this relation (its name without schema), with ON CONFLICT DO NOTHING
    and no target.
    """
    tokens = _tokens(query)
    if tokens is None or tokens.count("insert") != 1 or tokens.count("conflict") != 1:
        return False
    conflict = tokens.index("conflict")
    return tokens[conflict - 1 : conflict + 3] == DO_NOTHING and _target(tokens) == view


def _tokens(query: str) -> list[str] | None:
    """Returns keywords and names in lower case, quoted names in their quotes, and signs; None for what it cannot read.

    A backslash in an ordinary string is a doubt, because its meaning depends on standard_conforming_strings.
    """
    found, at = [], 0
    while at < len(query):
        match = TOKEN.match(query, at)
        if match is None or (match.lastgroup == "string" and "\\" in match[0]):
            return None
        if _kind(match) in KEPT:
            found.append(match[0].lower() if match["word"] else match[0])
        at = match.end()
    return found


def _kind(match: re.Match[str]) -> str:
    return next((kind for kind in KEPT if match[kind] is not None), "")


def _target(tokens: list[str]) -> str | None:
    """Returns the name of the relation after INSERT INTO, without its schema."""
    names = tokens[tokens.index("insert") + 2 :]
    while names[1:2] == ["."]:
        names = names[2:]
    return _unquoted(names[0]) if names else None


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
