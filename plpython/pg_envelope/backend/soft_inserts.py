"""Finds out whether an INSERT into a view says ON CONFLICT DO NOTHING. PostgreSQL does not tell a view's trigger.

do_nothing.py reads the text of the client's statement.
"""

from __future__ import annotations

from pg_envelope.backend.statement import Statement, calling


class SoftInserts:
    """Remembers the one INSERT of the client that is soft, and its view."""

    def __init__(self) -> None:
        self._noted: tuple[int, Statement] | None = None

    def note(self, view: int, name: str, context: str, query: str) -> None:
        """Called as an INSERT begins. `context` has a line for each function and statement that led here, and the
        trigger's own. The statement of a function cannot be read, and may look the same as the client's.
        """
        # The import is late, because few sessions write such statements.
        from pg_envelope.backend.do_nothing import says_do_nothing

        begun = view, calling()[0]
        if "\n" not in context and says_do_nothing(query, name):
            self._noted = begun
        elif self._noted == begun:
            self._noted = None

    def is_soft(self, view: int) -> bool:
        """Tells whether the calling statement inserts softly into the view."""
        return self._noted is not None and self._noted == (view, calling()[0])
