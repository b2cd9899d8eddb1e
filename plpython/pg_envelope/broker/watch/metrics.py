"""Keeps counters, gauges and histograms in Prometheus' text form."""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterator

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
MAX_TOLD = 1000
OTHER = "other"
# The errors of a value that does not open.
FAILURES = ("invalid_envelope", "unwrap_failed")
VALUE_LABELS = ("database", "role", "column")
Labels = tuple[str, ...]


class Counter:
    """A sum by labels. Beyond a bound of labels new ones are counted together, as `other`."""

    kind = "counter"

    def __init__(self, name: str, text: str, *labels: str) -> None:
        self.name, self.text, self._labels = name, text, labels
        self._values: dict[Labels, float] = {} if labels else {(): 0.0}

    def expect(self, *labels: str) -> None:
        """Shows a combination of labels from the start: a rule sees no increase of what was not there before."""
        self.add(*labels, by=0)

    def add(self, *labels: str, by: float = 1) -> None:
        if labels not in self._values and len(self._values) >= MAX_TOLD:
            labels = (OTHER,) * len(labels)
        self._values[labels] = self._values.get(labels, 0.0) + by

    def value(self, *labels: str) -> float:
        return self._values.get(labels, 0.0)

    def lines(self) -> Iterator[str]:
        for labels, value in sorted(self._values.items()):
            yield f"{self.name}{_braces(self._labels, labels)} {_number(value)}"


class Histogram:
    """Durations in seconds, by labels."""

    kind = "histogram"

    def __init__(self, name: str, text: str, *labels: str) -> None:
        self.name, self.text, self._labels = name, text, labels
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def observe(self, seconds: float, *labels: str) -> None:
        counts = self._counts.setdefault(labels, [0] * (len(BUCKETS) + 1))
        counts[bisect.bisect_left(BUCKETS, seconds)] += 1
        self._sums[labels] = self._sums.get(labels, 0.0) + seconds

    def lines(self) -> Iterator[str]:
        for labels, counts in sorted(self._counts.items()):
            total = 0
            for bound, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
                total += count
                yield f"{self.name}_bucket{_braces((*self._labels, 'le'), (*labels, bound))} {total}"
            yield f"{self.name}_sum{_braces(self._labels, labels)} {_number(self._sums[labels])}"
            yield f"{self.name}_count{_braces(self._labels, labels)} {total}"


class Told:
    """Keeps the last value that was told, by labels. Beyond a bound of labels new ones are left out."""

    kind = "gauge"

    def __init__(self, name: str, text: str, *labels: str) -> None:
        self.name, self.text, self._labels = name, text, labels
        self._values: dict[Labels, float] = {}

    def set(self, *labels: str, to: float) -> None:
        if labels in self._values or len(self._values) < MAX_TOLD:
            self._values[labels] = to

    def lines(self) -> Iterator[str]:
        for labels, value in sorted(self._values.items()):
            yield f"{self.name}{_braces(self._labels, labels)} {_number(self._shown(value))}"

    def _shown(self, value: float) -> float:
        return value


class ToldAge(Told):
    """Keeps times, in seconds since 1970, and shows how long ago they are."""

    def _shown(self, value: float) -> float:
        return max(0.0, time.time() - value)


class Gauge:
    """Keeps values that are asked for when the metrics are read."""

    kind = "gauge"

    def __init__(self, name: str, text: str, read: Callable[[], dict[Labels, float]], *labels: str) -> None:
        self.name, self.text, self._read, self._labels = name, text, read, labels

    def lines(self) -> Iterator[str]:
        for labels, value in sorted(self._read().items()):
            yield f"{self.name}{_braces(self._labels, labels)} {_number(value)}"


class Metrics:
    """Holds all that the broker counts."""

    def __init__(self) -> None:
        self.requests = Counter("pg_envelope_requests_total", "Requests of backends.", "op", "outcome")
        self.seconds = Histogram("pg_envelope_request_seconds", "Time to answer a request.", "op")
        self.kms_requests = Counter("pg_envelope_kms_requests_total", "Requests to a KMS.", "kms", "op", "outcome")
        self.kms_seconds = Histogram("pg_envelope_kms_request_seconds", "Time of a request to a KMS.", "kms", "op")
        self.hits = Counter("pg_envelope_cache_hits_total", "DEKs found in the cache and fresh.")
        self.misses = Counter("pg_envelope_cache_misses_total", "DEKs that had to be asked for.")
        self.stale = Counter("pg_envelope_cache_stale_total", "DEKs used in their grace, while the KMS was down.")
        self.expired = Counter("pg_envelope_keys_expired_total", "DEKs dropped because their time was over.")
        self.refused = Counter("pg_envelope_peers_refused_total", "Connections of users that may not connect.")
        self.repeats = Counter("pg_envelope_audit_repeats_total", "Events that the audit log counts, not lists.")
        self.limits = Counter("pg_envelope_read_limits_total", "Limits of reads that a user reached.", "then")
        self.failures = Counter("pg_envelope_decrypt_failures_total", "Values that did not open.", "error")
        self.canaries = Counter("pg_envelope_canary_reads_total", "Canaries that somebody opened.")
        self.reads = Counter(
            "pg_envelope_reads_total", "Events in the ledger of reads: executions that decrypted.", "database", "column"
        )
        self.values = Counter(
            "pg_envelope_values_decrypted_total", "Values of audited columns that were decrypted.", *VALUE_LABELS
        )
        self.overdue = Told(
            "pg_envelope_overdue_keys", "Keys later than their schedule allows, as last told.", "database"
        )
        text = "Age of a level's oldest active key, as last told."
        self.key_ages = ToldAge("pg_envelope_key_age_seconds", text, "database", "level")
        self.requests.expect("refused", "ok")
        for action in ("refuse", "alarm"):
            self.limits.expect(action)
        for error in FAILURES:
            self.failures.expect(error)
        self._all: list[Counter | Histogram | Told | Gauge] = [
            found for found in vars(self).values() if isinstance(found, Counter | Histogram | Told)
        ]

    def gauge(self, name: str, text: str, read: Callable[[], dict[Labels, float]], *labels: str) -> None:
        """Adds values that are computed when a reader looks."""
        self._all.append(Gauge(name, text, read, *labels))

    def render(self) -> str:
        return "".join(f"{line}\n" for metric in self._all for line in _block(metric))


def _block(metric: Counter | Histogram | Told | Gauge) -> Iterator[str]:
    yield f"# HELP {metric.name} {metric.text}"
    yield f"# TYPE {metric.name} {metric.kind}"
    yield from metric.lines()


def _braces(names: Labels, values: Labels) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return f"{{{pairs}}}" if pairs else ""


def _number(value: float) -> str:
    """Writes a number with all of its digits, because a counter must never stand still."""
    return f"{value:.0f}" if value == int(value) else repr(value)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
