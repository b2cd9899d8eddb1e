"""Takes samples in turn, so that a busy moment of the machine hits all alike, and computes their medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass
class Samples:
    """The measured values of one peer, in the measure's unit."""

    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Half the distance of the quartiles, as a part of the median. A smaller difference is noise."""
        if len(self.values) < 2 or not self.median:
            return 0.0
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return (high - low) / 2 / abs(self.median)


@dataclass
class Measure:
    """One line of the table: one thing, measured of several peers. `more_is_better` is for rates."""

    name: str
    title: str
    unit: str
    peers: dict[str, Samples]
    more_is_better: bool = False

    def ratio(self, one: str, other: str) -> float | None:
        """Returns the median of `one` over that of `other`, or None when either was not measured."""
        if one not in self.peers or other not in self.peers or not self.peers[other].median:
            return None
        return self.peers[one].median / self.peers[other].median


def interleaved(takes: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Samples]:
    """Takes one sample of each per round. Every second round has the reverse order."""
    samples = {name: Samples() for name in takes}
    for number in range(rounds):
        names = list(takes) if number % 2 == 0 else list(takes)[::-1]
        for name in names:
            samples[name].values.append(takes[name]())
    return samples


def seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
