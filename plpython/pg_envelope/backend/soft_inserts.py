"""Finds out whether an INSERT into a view says ON CONFLICT DO NOTHING. PostgreSQL does not tell a view's trigger.

It reads the text of the client's statement. Wherever that text leaves a doubt, the answer is no: then a conflict is an
error, and no row is dropped without a word.
"""

from __future__ import annotations

from pg_envelope.backend import lexer
from pg_envelope.backend.lexer import STRING, UNREAD, WORD, SqlToken
from pg_envelope.backend.statement import Statement, calling

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
    read = list(lexer.tokens(query))
    words = [token.text if token.kind == WORD else "" for token in read]
    if any(map(_is_doubtful, read)) or words.count("insert") != 1 or words.count("conflict") != 1:
        return False
    conflict = words.index("conflict")
    return words[conflict - 1 : conflict + 3] == DO_NOTHING and _target(read[words.index("insert") + 2 :]) == view


def _is_doubtful(token: SqlToken) -> bool:
    """The meaning of a backslash in an ordinary string depends on standard_conforming_strings."""
    return token.kind == UNREAD or (token.kind == STRING and "\\" in token.text)


def _target(read: list[SqlToken]) -> str | None:
    """Returns the name of the relation, without its schema, with which the tokens begin."""
    while [token.text for token in read[1:2]] == ["."]:
        read = read[2:]
    return read[0].name if read else None
