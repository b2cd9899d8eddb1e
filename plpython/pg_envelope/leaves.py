"""Cuts a jsonb value into leaves, so that a search finds values by what they contain: FORMAT.md section 8.3.

A value contains another, as PostgreSQL's @> says, only if it has each of its leaves. Places in arrays do not count.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from pg_envelope import errors, leaf_paths
from pg_envelope.leaf_paths import Path
from pg_envelope.typed import Any

# A step into an array, whatever the place.
ELEMENT = "[]"
OBJECT, ARRAY = "{}", "[]"
# The most steps of a path: less than what any reader of JSON takes.
DEEPEST = 100
TOO_DEEP = "Look for a part of it that is nested less deeply."


class Number(str):
    """The text of a number, which equal numbers share."""

    __slots__ = ()


def of_value(text: str, most: int, paths: tuple[Path, ...] | None = None) -> set[str] | None:
    """Returns the leaves of a jsonb value, given as PostgreSQL writes it; with `paths`, those at or below them. None:
    there are more than `most`, or it is nested too deeply.
    """
    found: set[str] = set()
    try:
        for leaf in _leaves(_read(text), paths):
            found.add(leaf)
            if len(found) > most:
                return None
    except RecursionError:
        return None
    return found


def of_part(text: str, paths: tuple[Path, ...] | None = None) -> set[str]:
    """Returns the leaves that each value has which contains this one; with `paths`, those at or below them. Raises
    BadInput.
    """
    try:
        return set(_ends(_read(text), paths))
    except RecursionError:
        raise errors.BadInput("the value that is looked for is nested too deeply", hint=TOO_DEEP) from None


def _read(text: str) -> Any:
    return json.loads(text, parse_int=_number, parse_float=_number)


def _number(text: str) -> Number:
    return Number(text.rstrip("0").rstrip(".") if "." in text else text)


def _leaves(value: Any, paths: tuple[Path, ...] | None) -> Iterator[str]:
    for path, one in _within(value, paths):
        yield f"{path}={_written(one)}"
        # An array contains an element that stands alone, but only at the top, where no path leads.
        if path == ELEMENT and not isinstance(one, dict | list):
            yield f"={_written(one)}"


def _ends(value: Any, paths: tuple[Path, ...] | None) -> Iterator[str]:
    """Yields the leaves that are not around others: those tell most."""
    for path, one in _within(value, paths):
        if one in ({}, []) or not isinstance(one, dict | list):
            yield f"{path}={_written(one)}"


def _within(value: Any, paths: tuple[Path, ...] | None) -> Iterator[tuple[str, Any]]:
    """Yields each value within a value, and itself, with its path, or those at or below `paths` alone."""
    for path, place, one in _walk(value):
        if paths is None or leaf_paths.holds(paths, place):
            yield path, one


def _walk(value: Any) -> Iterator[tuple[str, Path, Any]]:
    """Yields each value within a value, and itself, with its path, and with the keys of that. Raises RecursionError, as
    the reader of JSON does at a depth that depends on Python.
    """
    waiting: list[tuple[str, Path, Any, int]] = [("", (), value, 0)]
    while waiting:
        path, place, one, depth = waiting.pop()
        if depth > DEEPEST:
            raise RecursionError
        yield path, place, one
        if isinstance(one, dict):
            waiting += [(f"{path}.{_quoted(key)}", (*place, key), inner, depth + 1) for key, inner in one.items()]
        elif isinstance(one, list):
            waiting += [(path + ELEMENT, place, inner, depth + 1) for inner in one]


def _written(one: Any) -> str:
    if isinstance(one, dict | list):
        return OBJECT if isinstance(one, dict) else ARRAY
    if isinstance(one, Number):
        return str(one)
    if isinstance(one, str):
        return _quoted(one)
    return {None: "null", True: "true", False: "false"}[one]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
