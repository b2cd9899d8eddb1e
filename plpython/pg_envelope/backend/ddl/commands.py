"""Finds the relations that a DDL command names, in the text of the command."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pg_envelope.backend.ddl import forms
from pg_envelope.typed import NamedTuple

ANY = r'(?:(?:"(?:[^"]|"")*"|[^" ]+) )'
WORD = r'(?:[^\W\d][\w$]*|"(?:[^"]|"")+") '
NAME = rf"({WORD}(?:\. {WORD})*)"
ON_TABLE = rf"\w+ (?:trigger|policy) (?:if exists )?{WORD}on {NAME}"
# The name of the relation that a command changes, by the tag of the command.
CHANGED = {
    "ALTER TABLE": rf"alter table (?:if exists )?(?:only )?{NAME}",
    "CREATE INDEX": rf"create (?:unique )?index {ANY}*?on (?:only )?{NAME}",
    # A trigger INSTEAD OF is for views, and a dump of a protected table has some.
    "CREATE TRIGGER": rf"create (?:or replace )?(?:constraint )?trigger {WORD}(?!instead of ){ANY}*?on {NAME}",
    "ALTER TRIGGER": ON_TABLE,
    "DROP TRIGGER": ON_TABLE,
    "CREATE POLICY": ON_TABLE,
    "ALTER POLICY": ON_TABLE,
    "DROP POLICY": ON_TABLE,
    # A comment on a column is for the view.
    "COMMENT": rf"comment on (?:table |(?:constraint|trigger|policy) {WORD}on ){NAME}",
    "CREATE STATISTICS": rf"create statistics {ANY}*?from {NAME}",
}
THAT_TRIGGER = re.compile(rf"(?:alter|drop) trigger (?:if exists )?({WORD})on ")
DROPPED = re.compile(r"drop table (?:if exists )?(.*)")
REFERRED = re.compile(rf"(?<![^ ])references {NAME}")
# What takes the shape of a table must meet the view, whose columns have the types of the values.
LIKE = re.compile(rf"(?<![^ ])(?:like|(?<!partition )of|inherits \() {NAME}")
PARTITION_OF = re.compile(rf"(?<![^ ])partition of {NAME}")
DETACHED = re.compile(rf"detach partition {NAME}(?:concurrently )?")
# A view takes these by itself, and its base table follows.
OF_VIEW = re.compile(
    rf"owner to {ANY}+|alter (?:column )?{WORD}(?:set default .*|drop default )|rename (?:column )?{WORD}to {WORD}"
)
INNER = re.compile(r'SQL statement "(.*?)"(?=\n(?:PL/|SQL )|\Z)', re.DOTALL)


class Command(NamedTuple):
    """A relation that a statement names, as the parts of its name, and the statement in the form of the forms.

    `use`: it is to be `changed`, or another table `refers` to it, or it must keep its name for a copy of its `shape`.
    """

    name: tuple[str, ...]
    use: str
    statement: str

    @property
    def trigger(self) -> str | None:
        """The trigger that the statement alters or drops."""
        matched = THAT_TRIGGER.match(self.statement)
        return forms.unquoted(matched[1].strip()) if matched else None

    @property
    def detaches(self) -> bool:
        """Whether a partition is to leave its table."""
        return any(map(DETACHED.fullmatch, self.actions))

    @property
    def actions(self) -> list[str]:
        """What the statement does behind the name of the relation."""
        matched = re.match(CHANGED["ALTER TABLE"], self.statement)
        return forms.parts(self.statement[matched.end() :].removeprefix("* ")) if matched else []


def running(context: str, query: str) -> str:
    """Returns the text of the command that runs: the innermost one, if functions run others."""
    found = INNER.search(context)
    return found[1] if found else query


def find(text: str, tag: str) -> Iterator[Command]:
    """Yields the relations that statements of one kind name. A text can hold several such statements."""
    for statement in forms.statements(text):
        for name, use in _named(statement, tag):
            parts = tuple(map(forms.unquoted, filter(".".__ne__, forms.tokens(name))))
            command = Command(parts, use, statement)
            if not (use == "changed" and tag == "ALTER TABLE" and all(map(OF_VIEW.fullmatch, command.actions))):
                yield command


def _named(statement: str, tag: str) -> Iterator[tuple[str, str]]:
    changed = re.match(CHANGED.get(tag, "(?!)"), statement)
    if changed:
        yield changed[1], "changed"
    dropped = DROPPED.match(statement) if tag == "DROP TABLE" else None
    for part in forms.parts(dropped[1]) if dropped else ():
        name = re.match(NAME, part)
        if name:
            yield name[1], "changed"
    makes = tag == "CREATE TABLE" and statement.startswith("create ")
    if makes or (changed and tag == "ALTER TABLE"):
        yield from ((found[1], "refers") for found in REFERRED.finditer(statement))
    if makes:
        yield from ((found[1], "changed") for found in PARTITION_OF.finditer(statement))
        yield from ((found[1], "shape") for found in LIKE.finditer(statement))
