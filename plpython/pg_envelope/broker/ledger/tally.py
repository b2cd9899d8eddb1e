"""Counts the values that sessions decrypt, by the lines of the ledger of reads."""

from __future__ import annotations

from typing import Any, NamedTuple

from pg_envelope import ring
from pg_envelope.broker.watch.metrics import Counter, Labels

Entry = dict[str, Any]


class Counted(NamedTuple):
    """The event in a slot of a ring, and how many of its values are counted."""

    seq: int
    labels: Labels
    values: int


class Tally:
    """Hears of each line. It keeps an event while its ring may tell a later count of it.

    Counts of events from before the broker's start are left out: nobody tells how many of them are new.
    """

    def __init__(self, events: Counter, values: Counter) -> None:
        """`events` has the labels database and column, `values` database, role and column."""
        self._events, self._values = events, values
        self._rings: dict[str, dict[int, Counted]] = {}

    def note(self, entry: Entry) -> None:
        match entry["event"]:
            case "read":
                self._begin(entry)
            case "count":
                self._go_on(entry)
            case "ended":
                self._rings.pop(entry["ring"], None)

    def _begin(self, entry: Entry) -> None:
        database, column = str(entry.get("database")), _column(entry)
        self._events.add(database, column)
        labels = database, str(entry.get("role")), column
        slots = self._rings.setdefault(entry["ring"], {})
        slots[ring.slot(entry["seq"])] = Counted(entry["seq"], labels, entry["count"])
        self._add(labels, entry["count"])

    def _go_on(self, entry: Entry) -> None:
        slots, at = self._rings.get(entry["ring"], {}), ring.slot(entry["seq"])
        known = slots.get(at)
        # A session that writes nonsense into its ring may count back.
        if known is not None and known.seq == entry["seq"] and entry["count"] > known.values:
            slots[at] = known._replace(values=entry["count"])
            self._add(known.labels, entry["count"] - known.values)

    def _add(self, labels: Labels, count: int) -> None:
        if count:
            self._values.add(*labels, by=count)


def _column(entry: Entry) -> str:
    return f"{entry['table']}.{entry.get('column')}" if "table" in entry else f"key {entry.get('key')}"
