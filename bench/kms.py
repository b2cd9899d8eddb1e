"""How many requests the broker sent to the KMS, and what for, from its own metrics."""

from __future__ import annotations

import re
from collections import Counter

from stack.stack import Stack

COUNT = re.compile(r'^pg_envelope_kms_requests_total\{[^}]*op="(\w+)"[^}]*\} (\d+)', re.MULTILINE)
# What the broker asks on its own, every few seconds, to know how the KMS is: no statement waits for it.
HEALTH = "describe"


def requests(stack: Stack) -> Counter[str]:
    """Requests by operation since the broker's start."""
    counts: Counter[str] = Counter()
    for op, count in COUNT.findall(stack.broker.page("metrics")):
        counts[op] += int(count)
    return counts


def split(counts: Counter[str]) -> tuple[int, int]:
    """Requests for keys, and health checks."""
    return counts.total() - counts[HEALTH], counts[HEALTH]
