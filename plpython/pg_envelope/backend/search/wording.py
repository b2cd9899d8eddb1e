"""Reads the text of a statement word by word, and tells where it compares, sorts and groups by which columns.

It knows clauses, not names: it cannot tell two tables of a statement apart that have a column of one name.
"""

from __future__ import annotations

from collections.abc import Iterator

from pg_envelope.backend import lexer
from pg_envelope.backend.lexer import LITERALS, QUOTED, VALUE, SqlToken
from pg_envelope.records import dataclass

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
# What stands behind a column that is equal to literals or parameters.
GIVEN = (("=", "$"), ("=", "any", "(", "$"), ("in", "(", "$"))
# What a search for candidates narrows: parts of texts, contents of jsonb, and order.
CONTAINS, WITHIN, LIKE, ORDER = "@>", "<@", "like", "<"
NARROWED = {
    **dict.fromkeys(("like", "ilike", "~~", "~~*"), LIKE),
    **dict.fromkeys(("<", "<=", ">", ">=", "between"), ORDER),
    CONTAINS: CONTAINS,
    WITHIN: WITHIN,
}


@dataclass(frozen=True)
class Word:
    """A word of a statement. `text` is a name as the server knows it, a keyword in small letters, or a sign."""

    text: str
    is_name: bool
    is_quoted: bool = False


@dataclass(frozen=True)
class Mention:
    """A name in a clause, and what the clause does with it.

    `sign` is "=" or "<>" for a name that is compared for equality as it is, one of those in NARROWED for one that a
    search for candidates may narrow, or empty. With `is_given` it is equal to one of several literals or parameters.
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
    signs = {**EQUALITIES, **NARROWED}
    sign = signs.get(after) or (signs.get(before, "") if after not in ("(", ".") else "")
    given = (_at(said, first - 2), before) == ("$", "=") or any(_follows(said, place, given) for given in GIVEN)
    return Mention(said[place].text, does, sign, given)


def _follows(said: list[Word], place: int, after: tuple[str, ...]) -> bool:
    return tuple(_at(said, place + 1 + number) for number in range(len(after))) == after


def _at(said: list[Word], place: int) -> str:
    return said[place].text if 0 <= place < len(said) else ""
