"""Refuses what a command would do to envelopes, before it begins, with the call to make instead.

It reads the text of the command, so it can miss something. What it misses is refused when it is done: intact.py.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from pg_envelope import errors
from pg_envelope.backend.ddl import forms
from pg_envelope.backend.ddl.commands import WORD, Command
from pg_envelope.backend.ddl.intact import SEARCH, UNPROTECT
from pg_envelope.backend.host import Host, Row

COLUMNS = "SELECT attname AS name FROM envelope_private.protected_column WHERE key_uuid = $1"
RETYPED = re.compile(rf"alter (?:column )?({WORD})(?:set data )?type ")
CONSTRAINED = re.compile(rf"add (?:constraint {WORD})?(unique|primary|foreign|exclude|check) ")
CONCURRENTLY = re.compile(r"create (?:unique )?index concurrently |alter table .* detach partition .* concurrently ")


def check(host: Host, key: Row, named: Iterable[Command]) -> None:
    """Raises Unsupported."""
    protected = {row["name"] for row in host.rows(COLUMNS, ["uuid"], [key["key_uuid"]])}
    for command in named:
        for reason, hint in _reasons(key, command, protected):
            raise errors.Unsupported(f"{key['view_name']} is protected: {reason}", hint=hint)


def _reasons(key: Row, command: Command, protected: Collection[str]) -> Iterator[tuple[str, str]]:
    if command.use != "changed":
        return
    if CONCURRENTLY.match(command.statement):
        yield "a command that commits by itself must name the base table", f"Its name is {key['base_name']}."
    if command.statement.startswith("create ") and " index " in command.statement:
        for name in _used(command.statement, protected):
            yield f"an index would see the envelopes of column {name}", SEARCH
    for action in command.actions:
        yield from _of_action(action, protected)


def _of_action(action: str, protected: Collection[str]) -> Iterator[tuple[str, str]]:
    retyped = RETYPED.match(action)
    if retyped and _used(retyped[1], protected):
        yield f"the type of column {_used(retyped[1], protected)[0]} cannot be changed", UNPROTECT
    constrained = CONSTRAINED.match(action)
    for name in _used(action, protected) if constrained else ():
        hint = SEARCH if constrained and constrained[1] == "unique" else UNPROTECT
        yield f"a constraint would see the envelopes of column {name}", hint


def _used(text: str, protected: Collection[str]) -> list[str]:
    names = (forms.unquoted(token) for token in forms.tokens(text))
    return [name for name in names if name in protected]
