"""The count of decrypted values: the sum of all last counts, whatever comes between."""

from __future__ import annotations

import re
from collections import Counter as Sums
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pg_envelope import ring
from pg_envelope.broker.ledger.tally import Tally
from pg_envelope.broker.watch.metrics import MAX_TOLD, OTHER, VALUE_LABELS, Counter, Metrics

RINGS = ("a", "b")


def made() -> tuple[Tally, Counter, Counter]:
    events, values = Counter("events", "text", "database", "column"), Counter("values", "text", *VALUE_LABELS)
    return Tally(events, values), events, values


def read(name: str, seq: int, count: int, **facts: Any) -> dict[str, Any]:
    return {"event": "read", "database": "d", "role": f"r{seq % 3}", "ring": name, "seq": seq, "count": count, **facts}


def counted(name: str, seq: int, count: int) -> dict[str, Any]:
    return {"event": "count", "ring": name, "seq": seq, "count": count}


@given(st.lists(st.tuples(st.sampled_from(RINGS), st.integers(0, 9), st.lists(st.integers(0, 50), max_size=3))))
def test_the_sum_is_that_of_the_last_counts(lines: list[tuple[str, int, list[int]]]) -> None:
    """Also when a slot is taken anew: the old event's last count comes before."""
    tally, events, values = made()
    last: Sums[str] = Sums()
    next_seq = dict.fromkeys(RINGS, 1)
    for name, first, later in lines:
        seq, next_seq[name] = next_seq[name], next_seq[name] + 100
        tally.note(read(name, seq, first, table="t", column="c"))
        for count in later:
            tally.note(counted(name, seq, count))
        last[f"r{seq % 3}"] += max([first, *later])
    found = {labels: values.value("d", labels, "t.c") for labels in last}
    assert found == dict(last)
    assert events.value("d", "t.c") == len(lines)


def test_unknown_counts_are_left_out() -> None:
    tally, _, values = made()
    tally.note(counted("a", 1, 7))
    tally.note(read("a", 2, 3, key="cards"))
    tally.note(counted("a", 2 + ring.SLOTS, 9))
    assert values.value("d", "r2", "key cards") == 3
    tally.note({"event": "ended", "ring": "a", "seq": 2})
    tally.note(counted("a", 2, 9))
    tally.note({"event": "limit", "rows": 1})
    assert values.value("d", "r2", "key cards") == 3


def test_roles_beyond_the_bound_are_counted_together() -> None:
    """A user who makes roles cannot fill the broker's memory, and no value goes uncounted."""
    metrics = Metrics()
    tally = Tally(metrics.reads, metrics.values)
    many = MAX_TOLD + 500
    for seq in range(1, many + 1):
        tally.note(read("a", seq, 2, role=f"made{seq}", table="t", column="c"))
    page = re.findall(r'^pg_envelope_values_decrypted_total\{.*role="(\w+)".*\} (\d+)$', metrics.render(), re.M)
    assert len(page) == MAX_TOLD + 1
    assert sum(int(count) for _, count in page) == 2 * many
    assert dict(page)[OTHER] == "1000"
    tally.note(counted("a", many, 9))
    tally.note(counted("a", many - 1, 9))
    assert metrics.values.value(OTHER, OTHER, OTHER) == 1000 + 7 + 7
