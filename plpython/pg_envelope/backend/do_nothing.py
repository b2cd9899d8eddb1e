"""Reads from the text of a client's statement whether it is an INSERT with ON CONFLICT DO NOTHING.

Wherever the text leaves a doubt, the answer is no: then a conflict is an error, and no row is dropped without a word.
"""

from __future__ import annotations

from pg_envelope.backend import lexer
from pg_envelope.backend.lexer import STRING, UNREAD, WORD, SqlToken

DO_NOTHING = ["on", "conflict", "do", "nothing"]


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
