"""Names a limit of reads. It is apart because protect() needs it, and nothing else that reads need."""

from __future__ import annotations

from pg_envelope.typed import NamedTuple


class Limit(NamedTuple):
    """At most `rows` values in any `seconds` for one user; `then`: refuse or alarm."""

    rows: int
    seconds: int
    then: str
