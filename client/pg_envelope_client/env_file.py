"""Reads a .env file. What two programs would read differently is refused, not guessed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pg_envelope_client.problems import Problem

BLANK = re.compile(r"[ \t]*+(?:#[^\n]*+)?(?:\n|\Z)")
# A value without quotes: words, of which none but the first may begin with `#` unless blanks are before it.
WORD = r"[^\s'\"`$\\]++"
BARE = rf"(?:(?!(?<=[ \t])\#){WORD}(?:[ \t]++(?!\#){WORD})*)?"
# Possessive quantifiers: a line of a million blanks is refused at once, too.
ENTRY = re.compile(
    r"[ \t]*+(?:export[ \t]++)?(?P<name>[A-Za-z_][A-Za-z0-9_]*+)[ \t]*+=[ \t]*+"
    rf"""(?:'(?P<single>[^']*+)'|"(?P<double>(?:[^"\\$`]|\\[nrt"\\$`])*+)"|(?P<bare>{BARE}))"""
    r"[ \t]*+(?:(?<=[ \t])\#[^\n]*+)?(?:\n|\Z)"
)
ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}
HINT = "NAME=value, or NAME='value' if the value holds a quote, a backslash, `$` or a line break."


class EnvEntry(NamedTuple):
    """One variable, with its first and last line in the file, from 1."""

    first: int
    last: int
    name: str
    value: str


def read(content: bytes, path: Path) -> list[EnvEntry]:
    """Returns all variables of a file. Raises Problem, which names a line and never repeats it."""
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise Problem(f"{path} is not text in UTF-8") from None
    found = list(_entries(text, path))
    names = [entry.name for entry in found]
    for number, entry in enumerate(found):
        if entry.name in names[:number]:
            raise _refused(path, entry.first, f"{entry.name} is there a second time", "Keep one of them.")
    return found


def _entries(text: str, path: Path) -> Iterator[EnvEntry]:
    place, line = 0, 1
    while place < len(text):
        entry = ENTRY.match(text, place)
        match = entry or BLANK.match(text, place)
        if match is None:
            raise _refused(path, line, "this line cannot be read, or is read differently by different programs", HINT)
        lines = match[0].count("\n") or 1
        if entry:
            yield EnvEntry(line, line + lines - 1, entry["name"], _value(entry))
        place, line = match.end(), line + lines


def _value(entry: re.Match[str]) -> str:
    if entry["double"] is not None:
        return re.sub(r"\\(.)", lambda found: ESCAPED.get(found[1], found[1]), entry["double"])
    return str(entry["bare"] if entry["single"] is None else entry["single"])


def _refused(path: Path, line: int, why: str, hint: str) -> Problem:
    return Problem(f"{path}, line {line}: {why}", detail="Nothing was stored.", hint=hint)
