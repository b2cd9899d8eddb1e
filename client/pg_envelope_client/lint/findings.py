"""Says what is found, and makes the statement in which the search columns are used."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pg_envelope import slow_words
from pg_envelope.slow_words import quoted
from pg_envelope_client.lint.scope import NamedColumn

IDENTIFIER = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
NAME = re.compile(rf"{IDENTIFIER}(?:\s*\.\s*{IDENTIFIER})*")
LAST = re.compile(rf"{IDENTIFIER}\Z")


@dataclass(frozen=True)
class Edit:
    """The characters `start` to `end` of a statement become `text`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Remark:
    """What a statement does with a column, at a character of it, and what to write in its place.

    Without `edits` a person has to decide.
    """

    offset: int
    column: str
    what: str
    instead: str
    edits: tuple[Edit, ...] = ()


def rewritten(statement: str, findings: Iterable[Remark]) -> str:
    """Returns the statement with all edits. Nothing else of it changes."""
    edits = {edit for found in findings for edit in found.edits}
    for edit in sorted(edits, key=lambda one: (one.start, one.end), reverse=True):
        statement = statement[: edit.start] + edit.text + statement[edit.end :]
    return statement


def renamed(statement: str, column: NamedColumn, name: str) -> Edit | None:
    """Returns the edit that puts another column's name in the place of a column's, and keeps the name of the table."""
    start = column.node.location
    written = NAME.match(statement, start)
    last = LAST.search(written[0]) if written else None
    if written is None or last is None:
        return None
    return Edit(start + last.start(), written.end(), quoted(name))


def unwrapped(statement: str, call: Any, column: NamedColumn, name: str) -> Edit | None:
    """Returns the edit that puts a column in the place of a function of it, such as lower(email)."""
    written = re.compile(rf"[\w.]+\s*\(\s*({NAME.pattern})\s*\)").match(statement, call.location)
    if written is None or column.node.location != written.start(1):
        return None
    table = LAST.sub("", written[1])
    return Edit(call.location, written.end(), table + quoted(name))


def title(column: NamedColumn) -> str:
    """Returns a column's name for people."""
    return f"{column.table.name}.{column.name}"


def add_first(column: NamedColumn) -> str:
    """Says what to do where no search column answers."""
    return slow_words.add_first(column.table.schema, column.table.name, column.name)
