"""Measures how much of a column its tokens would tell a person who sees them all and knows how common each value is.

The attack is tried, not estimated. One half of a sample stands for the person's knowledge of the world, the other half
for the table. Tokens and values are both sorted by how often they occur, and matched place by place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from math import log2

# A sample of fewer rows says nothing.
ENOUGH = 1000
# The limits are shares of the rows that the attack reads.
REFUSE, WARN = 0.5, 0.05
# A person can tell so few values apart by hand.
FEW = 10


@dataclass(frozen=True)
class Value:
    """The counts of one value in both halves: `known` in the known half, `attacked` in the attacked half."""

    known: int
    attacked: int

    @property
    def count(self) -> int:
        return self.known + self.attacked


@dataclass(frozen=True)
class Leakage:
    """`top` is the share of the most common value, and `matched` the share of rows that the attack reads, both 0 … 1.

    `entropy` is the min-entropy in bits: by the best first guess.
    """

    rows: int
    values: int
    top: float
    matched: float

    @property
    def entropy(self) -> float:
        return -log2(self.top) if self.top else 0.0

    @property
    def verdict(self) -> str:
        """FINE, WARN, REFUSE, or UNKNOWN for too small a sample."""
        if self.rows < ENOUGH:
            return "UNKNOWN"
        if self.values <= FEW or self.matched >= REFUSE:
            return "REFUSE"
        return "WARN" if max(self.matched, self.top) >= WARN else "FINE"

    @property
    def sentence(self) -> str:
        if self.rows < ENOUGH:
            return (
                f"{self.rows} rows are too few to tell: fill the table first, or think of the values that it will hold."
            )
        if self.values <= FEW:
            return (
                f"There are {self.values} different values: who knows one row of each reads all rows by their tokens."
            )
        return (
            f"An attacker who sees the tokens and knows how common the values are reads {self.matched:.1%} of the rows;"
            f" one who knows only the most common value guesses {self.top:.1%}."
        )


def leakage(values: Iterable[Value]) -> Leakage:
    found = list(values)
    rows = sum(value.count for value in found)
    attacked = sum(value.attacked for value in found)
    top = max((value.count for value in found), default=0)
    read = sum(_expected(found))
    return Leakage(rows, len(found), top / rows if rows else 0.0, read / attacked if attacked else 0.0)


def _expected(values: list[Value]) -> Iterator[float]:
    """Yields for each value the rows that the attack reads, on average over all orders of values that occur equally
    often.
    """
    known = _places([value.known for value in values if value.known])
    attacked = _places([value.attacked for value in values if value.attacked])
    for value in values:
        if value.known and value.attacked:
            one, other = known[value.known], attacked[value.attacked]
            both = min(one.stop, other.stop) - max(one.start, other.start)
            yield value.attacked * max(0, both) / (len(one) * len(other))


def _places(counts: list[int]) -> dict[int, range]:
    """Returns, by count, the places that the values of that count have in the order of counts."""
    places, start = {}, 0
    for count, group in groupby(sorted(counts, reverse=True)):
        end = start + len(list(group))
        places[count], start = range(start, end), end
    return places
