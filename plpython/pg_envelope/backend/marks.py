"""Keeps the values of an upsert between the row that was given and the row that is updated, as drafts.

A mark stands for a value in the columns that an upsert relation writes. It tells one value from another, and is valid
in its own statement and for its own column only.
"""

from __future__ import annotations

import os
from collections import OrderedDict

from pg_envelope import errors
from pg_envelope.backend.statement import Statement, calling

MARK_BYTES = 9
# What nobody's text holds, but by an expression that was computed from a mark.
BEGIN, ANY_MARK = "\x01", "\x01[A-Za-z0-9_-]{12}\x02"
# A row that is updated was given a moment ago. More are kept for statements inside other statements.
MOST_DRAFTS = 4096


class NoSuchValue(errors.Unsupported):
    text = "a protected column of an upsert relation takes a value, NULL, or the same column of excluded"
    default_hint = (
        "Compute the value before it is inserted. Stored values are read through the protected table's own name."
    )


class Marks:
    """The drafts of the statements under way, by mark."""

    def __init__(self) -> None:
        self._drafts: OrderedDict[str, tuple[Statement, str, bytes]] = OrderedDict()

    def mark(self, draft: bytes | None, field: str) -> str | None:
        """Keeps a draft for the calling statement, and returns its mark."""
        if draft is None:
            return None
        from base64 import urlsafe_b64encode

        mark = f"{BEGIN}{urlsafe_b64encode(os.urandom(MARK_BYTES)).decode()}\x02"
        self._drafts[mark] = calling()[0], field, draft
        if len(self._drafts) > MOST_DRAFTS:
            self._drafts.popitem(last=False)
        return mark

    def marked(self, given: str | None, field: str) -> bytes | None:
        """Returns the draft for which `given` is the mark, or None for a value. Raises NoSuchValue."""
        if given is None or not _holds_mark(given):
            return None
        statement, of, draft = self._drafts.get(given, (None, None, None))
        if draft is None or of != field or statement != calling()[0]:
            raise NoSuchValue
        return draft


def _holds_mark(text: str) -> bool:
    """Imports `re` where it is needed, because a session that writes no upsert can do without it."""
    if BEGIN not in text:
        return False
    import re

    return re.search(ANY_MARK, text) is not None
