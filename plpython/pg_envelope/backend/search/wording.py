"""Reads the text of a statement word by word, and tells where it compares, sorts and groups by which columns.

It knows clauses, not names: it cannot tell two tables of a statement apart that have a column of one name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pg_envelope.backend import lexer
from pg_envelope.backend.lexer import LITERALS, QUOTED, VALUE, SqlToken

COMPARES, SORTS, GROUPS, TAKES = "compares", "sorts", "groups", ""
# The words that begin a clause, and what it does with the columns that it names.
CLAUSES = {
    **dict.fromkeys(("where", "on", "having", "using"), COMPARES),
    "order": SORTS,
    **dict.fromkeys(("group", "distinct"), GROUPS),
    **dict.fromkeys(
        ("select", "from", "set", "values", "returning", "limit", "offset", "into", "update", "join"), TAKES
    ),
    **dict.fromkeys(("union", "intersect", "except", "window", "for", "with"), TAKES),
}
# What comparisons for equality come to. IN and IS NULL are among them.
EQUALITIES = {"=": "=", "in": "=", "is": "=", "<>": "<>", "!=": "<>"}


@dataclass(frozen=True)
class Word:
    """A word of a statement. `text` is a name as the server knows it, a keyword in small letters, or a sign."""

    text: str
    is_name: bool
    is_quoted: bool = False


@dataclass(frozen=True)
class Mention:
    """A name in a clause, and what the clause does with it.

    `sign` is "=" or "<>" for a name that is compared for equality as it is, or empty. With `is_given` it is equal
    to a literal or parameter.
    """

    name: str
    does: str
    sign: str
    is_given: bool


def words(statement: str) -> list[Word]:
    return [_word(token) for token in lexer.tokens(statement)]


def _word(token: SqlToken) -> Word:
    if token.name is not None:
        return Word(token.name, is_name=True, is_quoted=token.kind == QUOTED)
    return Word("$" if token.kind in (*LITERALS, VALUE) else token.text, is_name=False)


def uses(said: list[Word]) -> Iterator[Mention]:
    """Yields the names in clauses that compare, sort or group. A bracket's own clauses end with it."""
    outer: list[str] = []
    does = TAKES
    for place, word in enumerate(said):
        if word.text == "(" and not word.is_name:
            outer.append(does)
        elif word.text == ")" and not word.is_name:
            does = outer.pop() if outer else TAKES
        elif _begins(said, place):
            does = CLAUSES[word.text]
        elif word.is_name and does:
            yield _use(said, place, does)


def _begins(said: list[Word], place: int) -> bool:
    word = said[place]
    if not word.is_name or word.is_quoted or word.text not in CLAUSES:
        return False
    before = _at(said, place - 1)
    # A column of a table may be called so, and IS DISTINCT FROM compares.
    return before not in (".", "is", "not") and not (word.text == "from" and before == "distinct")


def _use(said: list[Word], place: int, does: str) -> Mention:
    first = place - 2 if _at(said, place - 1) == "." else place
    before, after = _at(said, first - 1), _at(said, place + 1)
    sign = EQUALITIES.get(after) or (EQUALITIES.get(before, "") if after not in ("(", ".") else "")
    given = (after, _at(said, place + 2)) == ("=", "$") or (_at(said, first - 2), before) == ("$", "=")
    return Mention(said[place].text, does, sign, given)


def _at(said: list[Word], place: int) -> str:
    return said[place].text if 0 <= place < len(said) else ""
