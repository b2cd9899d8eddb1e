"""Sums up the last lines of the ledger of reads: who read which column, in the last hour, day and week."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from pg_envelope_client.dashboard.tail import is_cut, last_lines

MOST_ROWS = 30
SPANS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}
Reader = tuple[str, str]


class ReadSums(NamedTuple):
    """Rows of user, column and values by time. `is_cut`: older lines were not read."""

    rows: list[dict[str, Any]]
    is_cut: bool


def sums(ledger: Path) -> ReadSums:
    """Reads the end of a ledger. Raises OSError. It verifies nothing."""
    events: dict[tuple[object, object], dict[str, Any]] = {}
    for entry in last_lines(ledger):
        at = entry.get("ring"), entry.get("seq")
        if entry.get("event") == "read":
            events[at] = entry
        elif entry.get("event") == "count" and at in events:
            events[at]["count"] = entry.get("count")
    return ReadSums(_rows(list(events.values())), is_cut(ledger))


def _rows(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    now, found = datetime.now(UTC), defaultdict[Reader, Counter[str]](Counter)
    for event in events:
        counts = found[str(event.get("user")), _name(event)]
        for span, length in SPANS.items():
            if str(event.get("timestamp", "")) >= (now - length).isoformat():
                counts[span] += count if isinstance(count := event.get("count"), int) else 0
    rows = [
        {"user": user, "column": column, **{span: counts[span] for span in SPANS}}
        for (user, column), counts in found.items()
    ]
    recent = [one for one in rows if one["week"]]
    return sorted(recent, key=itemgetter("week"), reverse=True)[:MOST_ROWS]


def _name(event: dict[str, Any]) -> str:
    return f"{event['table']}.{event.get('column')}" if "table" in event else f"key {event.get('key')}"
