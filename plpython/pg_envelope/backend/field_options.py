"""Holds the options of a field. Only administration imports it, because a write in a session should not wait for it."""

from __future__ import annotations

from pg_envelope import suites
from pg_envelope.backend.read_limit import Limit
from pg_envelope.backend.search.options import SearchWanted
from pg_envelope.records import dataclass


@dataclass(frozen=True)
class FieldOptions:
    """The options of a field: how its values are bound, encrypted and searched.

    `bind` is row, column, context, or search for a search key. `drops_indexes`: protect() drops those of the column
    that tokens cannot stand in for. `limit` is for an audited field, and bounds the reads of one user. `force`: a
    deterministic suite is taken even where equal envelopes are as good as the values.
    """

    bind: str = "row"
    suite: int = suites.DEFAULT
    pad: bool = False
    audit: str = "none"
    search: tuple[SearchWanted, ...] = ()
    drops_indexes: bool = False
    limit: Limit | None = None
    force: bool = False

    @property
    def is_deterministic(self) -> bool:
        """True when equal values have equal envelopes."""
        return suites.SUITES[self.suite].is_deterministic
