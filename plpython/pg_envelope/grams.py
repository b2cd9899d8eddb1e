"""Cuts texts and patterns into grams, so that a search finds parts of texts: FORMAT.md section 8.1.

The fold takes each character for itself. So where a text has a part, the folded text has the folded part.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import lru_cache

SIZE = 3
# They stand before and behind a whole text, and count as characters.
START, END = "\x02", "\x03"
WILDCARDS = "%_"
ESCAPE = "\\"


def folded(text: str) -> str:
    return "".join(map(_fold, text))


@lru_cache(4096)
def _fold(one: str) -> str:
    """Returns the character's letters without case and accents. A Turkish i without a dot is an i, because lower() of a
    Turkish database makes it of I.
    """
    marked = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", one).casefold())
    letters = (letter for letter in marked if not unicodedata.combining(letter))
    return "".join(letters).replace("\u0131", "i")


def of_text(content: str) -> set[str]:
    """Returns the grams of a folded text: its runs of three characters, with its start and end."""
    return set(_runs(START + content + END))


def of_pattern(pattern: str) -> set[str]:
    """Returns the grams that each text has which a pattern of LIKE or ILIKE finds. Empty: the pattern is too short."""
    return {run for part in _parts(pattern) for run in _runs(part)}


def _runs(content: str) -> Iterator[str]:
    yield from (content[at : at + SIZE] for at in range(len(content) - SIZE + 1))


def _parts(pattern: str) -> Iterator[str]:
    """Yields what is between wildcards, folded."""
    part, rest = START, iter(pattern)
    for one in rest:
        if one in WILDCARDS:
            yield part
            part = ""
        else:
            part += _fold(next(rest, "") if one == ESCAPE else one)
    yield part + END
