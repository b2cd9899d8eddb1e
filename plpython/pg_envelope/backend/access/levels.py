"""What a role can get of a protected column, from the most to the least."""

from __future__ import annotations

from collections.abc import Iterable

CLEAR, MASKED, SEARCH_ONLY, NONE = LEVELS = ("clear", "masked", "search only", "none")
READ = (CLEAR, MASKED)


def best(levels: Iterable[str]) -> str:
    return min(levels, key=LEVELS.index, default=NONE)


def is_more(one: str, other: str) -> bool:
    return LEVELS.index(one) < LEVELS.index(other)
