"""Takes samples in turn, so that a busy moment of the machine hits all alike, and makes a figure of them.

The figure of a time on a clock is the median. That of processor time is the lowest sample: the same work takes the same
time, and cold caches, a slow clock and other processes only add to it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass
class Samples:
    """The measured values of one peer, in the measure's unit."""

    values: list[float] = field(default_factory=list)
    lowest: bool = False

    @property
    def figure(self) -> float:
        return min(self.values) if self.lowest else statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Half the distance of the quartiles, as a part of the median. A smaller difference is noise.

        Of processor time it is the distance from the lowest sample to the next one.
        """
        if len(self.values) < 2 or not self.figure:
            return 0.0
        if self.lowest:
            least, next_one, *_ = sorted(self.values)
            return (next_one - least) / least
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return (high - low) / 2 / abs(self.figure)


@dataclass
class Measure:
    """One line of the table: one thing, measured of several peers. `more_is_better` is for rates."""

    name: str
    title: str
    unit: str
    peers: dict[str, Samples]
    more_is_better: bool = False

    def ratio(self, one: str, other: str) -> float | None:
        """Returns the figure of `one` over that of `other`, or None when either was not measured."""
        if one not in self.peers or other not in self.peers or not self.peers[other].figure:
            return None
        return self.peers[one].figure / self.peers[other].figure


# Takes samples of each peer for so many rounds: interleaved() or of_cpu().
Sampled = Callable[[Mapping[str, Callable[[], float]], int], dict[str, Samples]]


def interleaved(takes: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Samples]:
    """Takes one sample of each per round. Every second round has the reverse order."""
    samples = {name: Samples() for name in takes}
    for number in range(rounds):
        names = list(takes) if number % 2 == 0 else list(takes)[::-1]
        for name in names:
            samples[name].values.append(takes[name]())
    return samples


def of_cpu(takes: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Samples]:
    """Takes samples of processor time: more of them, because they are short, and the lowest is meant."""
    samples = interleaved(takes, rounds * 3 if rounds > 1 else rounds)
    return {name: Samples(found.values, lowest=True) for name, found in samples.items()}


def seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
