"""Measures how much of a column its tokens would tell a person who sees them all and knows how common each value is.

The attack is tried, not estimated. One half of a sample stands for the person's knowledge of the world, the other half
for the table. Tokens and values are both sorted by how often they occur, and matched place by place. Beside another
column, the same is done among the rows of each of its values: a rare name may be the most common one of a village.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from math import log2

from pg_envelope.records import dataclass, replace

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

    `entropy` is the min-entropy in bits: by the best first guess. `alone` is what the attack reads without the other
    column, `beside`, if it uses one. `in_parts`: the tokens are of parts of the values, which tell more than is
    measured. `in_buckets`: what counts as a value is a bucket. `seen` is what the attacker sees of a value.
    """

    rows: int
    values: int
    top: float
    matched: float
    beside: str | None = None
    alone: float = 0.0
    in_parts: bool = False
    in_buckets: bool = False
    seen: str = "tokens"

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
        return "WARN" if self.in_parts or max(self.matched, self.top) >= WARN else "FINE"

    @property
    def sentence(self) -> str:
        if self.rows < ENOUGH:
            return (
                f"{self.rows} rows are too few to tell: fill the table first, or think of the values that it will hold."
            )
        if self.values <= FEW and self.in_buckets:
            return (
                f"There are {self.values} different buckets: who knows one row of each knows the buckets of all rows."
            )
        if self.values <= FEW:
            return (
                f"There are {self.values} different values: who knows one row of each reads all rows by their"
                f" {self.seen}."
            )
        if self.beside is not None:
            return (
                f"An attacker who also sees column {self.beside}, and knows how common the values are for each of its"
                f" values, reads {self.matched:.1%} of the rows; {self.alone:.1%} without that column."
            )
        if self.in_parts:
            return (
                f"By whole values, an attacker who knows how common these are reads {self.matched:.1%} of the rows. The"
                " parts of the values tell more: who knows how common parts are reads many. This is not measured."
            )
        if self.in_buckets:
            return (
                "An attacker who sees which rows share buckets, and knows how common these are, tells the narrowest"
                f" bucket of {self.matched:.1%} of the rows; one who knows only the most common bucket guesses"
                f" {self.top:.1%}."
            )
        return (
            f"An attacker who sees the {self.seen} and knows how common the values are reads {self.matched:.1%} of the"
            f" rows; one who knows only the most common value guesses {self.top:.1%}."
        )


def leakage(values: Iterable[Value]) -> Leakage:
    found = list(values)
    rows = sum(value.count for value in found)
    attacked = sum(value.attacked for value in found)
    top = max((value.count for value in found), default=0)
    read = sum(_expected(found))
    return Leakage(rows, len(found), top / rows if rows else 0.0, read / attacked if attacked else 0.0)


def in_buckets(alone: Leakage, paths: Mapping[tuple[str, ...], Value]) -> Leakage:
    """Returns what the attack reads of a range search. `paths` has the counts of each narrowest bucket, by the buckets
    around it, the widest first.

    The attack matches the narrowest buckets at once, or the widest ones first and then those within each: as it reads
    more.
    """
    attacked = sum(value.attacked for value in paths.values())
    stepwise = _read_within(paths) / attacked if attacked else 0.0
    return replace(alone, matched=max(alone.matched, stepwise), in_buckets=True)


def _read_within(paths: Mapping[tuple[str, ...], Value]) -> float:
    """Returns the rows that are read by matching the first buckets of the paths, and then what is within each."""
    inner: dict[str, dict[tuple[str, ...], Value]] = {}
    for (first, *rest), value in paths.items():
        inner.setdefault(first, {})[tuple(rest)] = value
    sizes = [Group(list(within.values())).size for within in inner.values()]
    read = 0.0
    for within, size, chance in zip(inner.values(), sizes, _chances(sizes), strict=True):
        read += chance * (size.attacked if () in within else _read_within(within))
    return read


@dataclass(frozen=True)
class Group:
    """The rows of one value of another column, by the values of the column that is attacked. `is_seen`: the attacker
    knows that value, because it is NULL or in the clear.
    """

    values: Sequence[Value]
    is_seen: bool = False

    @property
    def size(self) -> Value:
        return Value(sum(value.known for value in self.values), sum(value.attacked for value in self.values))


def beside(other: str, alone: Leakage, groups: Sequence[Group]) -> Leakage:
    """Returns what the attack reads beside a column `other`, whose values it must match first."""
    sizes = [group.size for group in groups]
    found = zip(groups, _matched(groups), strict=True)
    read = sum(chance * sum(_expected(list(group.values))) for group, chance in found)
    attacked = sum(size.attacked for size in sizes)
    together = read / attacked if attacked else 0.0
    return replace(alone, matched=max(alone.matched, together), beside=other, alone=alone.matched)


def _matched(groups: Sequence[Group]) -> Iterator[float]:
    """Yields how likely the attack knows whose rows each group has. Only those that it must match have places."""
    chances = _chances([group.size for group in groups if not group.is_seen])
    for group in groups:
        yield 1.0 if group.is_seen else next(chances)


def _expected(values: list[Value]) -> Iterator[float]:
    """Yields for each value the rows that the attack reads."""
    for value, chance in zip(values, _chances(values), strict=True):
        yield value.attacked * chance


def _chances(values: list[Value]) -> Iterator[float]:
    """Yields how likely the attack reads each value, on average over all orders of values that occur equally often."""
    known = _places([value.known for value in values if value.known])
    attacked = _places([value.attacked for value in values if value.attacked])
    for value in values:
        if not value.known or not value.attacked:
            yield 0.0
            continue
        one, other = known[value.known], attacked[value.attacked]
        both = min(one.stop, other.stop) - max(one.start, other.start)
        yield max(0, both) / (len(one) * len(other))


def _places(counts: list[int]) -> dict[int, range]:
    """Returns, by count, the places that the values of that count have in the order of counts."""
    places, start = {}, 0
    for count, group in groupby(sorted(counts, reverse=True)):
        end = start + len(list(group))
        places[count], start = range(start, end), end
    return places
