"""Carries the dependents of a table or view over to the relation that takes its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from pg_envelope.backend.host import Host
from pg_envelope.backend.tables import locks
from pg_envelope.backend.tables.dependents import graph, in_place, made_again
from pg_envelope.backend.tables.dependents.dependent import Dependent
from pg_envelope.backend.tables.dependents.graph import Graph, Node
from pg_envelope.backend.tables.dependents.in_place import InPlace
from pg_envelope.backend.tables.inspect import Table

KINDS: dict[str, Callable[[Host, Node], Dependent]] = {
    "v": in_place.view,
    "rule": in_place.rule,
    "own rule": made_again.own_rule,
    "policy": in_place.policy,
    "function": in_place.function,
    "m": made_again.materialized_view,
    "made function": made_again.function,
}


def lock(host: Host, relation: Table, *locked: str) -> Graph:
    """Locks the dependents and then `locked`, in the order in which readers do. Raises Locked.

    Returns the dependents. From then on nobody can make another one.
    """
    found = graph.find(host, relation)
    while True:
        locks.held(host, {**_locks(host, found.nodes), **{name: locks.statement(name) for name in locked}})
        now = graph.find(host, relation)
        if now == found:
            return now
        found = now


def _locks(host: Host, nodes: Iterable[Node]) -> dict[str, str]:
    # What is used by others comes last.
    return dict(filter(None, [dependent.lock for dependent in reversed(read(host, nodes))]))


def read(host: Host, nodes: Iterable[Node]) -> list[Dependent]:
    """Returns what it takes to bring the dependents back, each after those that it uses."""
    return [KINDS[node.kind](host, node) for node in nodes]


@contextmanager
def carried(host: Host, dependents: Sequence[Dependent]) -> Iterator[None]:
    """Takes dependents out of the way of what is done inside, and brings them back over what then has the name.

    After an error they are away: the caller's transaction must end.
    """
    away(host, dependents)
    yield
    for dependent in dependents:
        dependent.back(host)
    for dependent in dependents:
        dependent.complete(host)


def away(host: Host, dependents: Sequence[Dependent]) -> None:
    # Those that are dropped come after those that use them.
    for dependent in reversed(dependents):
        dependent.away(host)


def readers_as_owner(dependents: Iterable[Dependent]) -> list[str]:
    """Returns what reads with the right of its owner. Under row-level security a protected table asks for that of the
    caller instead.
    """
    return [one.what for one in dependents if isinstance(one, InPlace) and one.reads_as_owner]
