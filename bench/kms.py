"""Counts the requests that the broker sent to the KMS, by purpose, from the broker's own metrics."""

from __future__ import annotations

import re
from collections import Counter

from stack.stack import Stack

COUNT = re.compile(r'^pg_envelope_kms_requests_total\{[^}]*op="(\w+)"[^}]*\} (\d+)', re.MULTILINE)
# The broker asks this on its own, every few seconds, to know the KMS's state. No statement waits for it.
HEALTH = "describe"


def requests(stack: Stack) -> Counter[str]:
    """Returns requests by operation since the broker's start."""
    counts: Counter[str] = Counter()
    for op, count in COUNT.findall(stack.broker.page("metrics")):
        counts[op] += int(count)
    return counts


def split(counts: Counter[str]) -> tuple[int, int]:
    """Returns the requests for keys, and the health checks."""
    return counts.total() - counts[HEALTH], counts[HEALTH]
