"""Follows what PostgreSQL writes for a function in FROM, when its row type gets or loses search columns.

It writes out all columns there, `leads() l(id, name, email_search)`, whether a query uses them or not. Search columns
are the last ones of a row type. WITH ORDINALITY adds one column behind them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables.dependents.dependent import Dependent
from pg_envelope.records import replace

NAME = r'(?:"(?:[^"]|"")*"|[\w$]+)'
MORE = rf"(?:, {NAME})"


def gaining(dependents: Iterable[Dependent], kept: int, gained: Sequence[str]) -> list[Dependent]:
    """Returns the dependents with texts for a row type that has `gained` columns behind those of before.

    Without ORDINALITY, no text has to name them.
    """
    columns = rf"(\) WITH ORDINALITY {NAME}\({NAME}{MORE}{{{kept - 1}}})({MORE}\))"
    names = "".join(f", {ident(name)}" for name in gained)
    return _changed(dependents, columns, names)


def losing(dependents: Iterable[Dependent], kept: int, lost: Sequence[str]) -> list[Dependent]:
    """Returns the dependents with texts that name the columns of a row type that are `kept`, and no more.

    The first column that is lost has its own name there, or a number behind it where a query has that name twice.
    """
    first = rf', "?{re.escape(lost[0])}(?:_\d+)?"?' if lost else ""
    names = rf"{first}{MORE}{{{max(len(lost) - 1, 0)}}}"
    columns = rf"(\)(?: WITH ORDINALITY)? {NAME}\({NAME}{MORE}{{{kept - 1}}}){names}({MORE}?\))"
    return _changed(dependents, columns, "") if lost else list(dependents)


def _changed(dependents: Iterable[Dependent], columns: str, between: str) -> list[Dependent]:
    def joined(found: re.Match[str]) -> str:
        return found[1] + between + found[2]

    return [replace(one, text=re.sub(columns, joined, one.text)) for one in dependents]
