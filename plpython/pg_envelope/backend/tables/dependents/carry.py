"""Carries the dependents of a table or view over to the relation that takes its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from pg_envelope.backend.host import Host
from pg_envelope.backend.tables import locks
from pg_envelope.backend.tables.dependents import graph, in_place, literals, made_again, rehearsal
from pg_envelope.backend.tables.dependents.dependent import Dependent
from pg_envelope.backend.tables.dependents.graph import Graph, Node
from pg_envelope.backend.tables.dependents.in_place import InPlace
from pg_envelope.backend.tables.inspect import Column, Table

KINDS: dict[str, Callable[[Host, Node], Dependent]] = {
    "v": in_place.view,
    "rule": in_place.rule,
    "own rule": made_again.own_rule,
    "policy": in_place.policy,
    "function": in_place.function,
    "m": made_again.materialized_view,
    "made function": made_again.function,
}


# LOCK TABLE would also lock what is below a view, with the right of the view's owner. This takes the same lock, and
# changes nothing.
LOCKS = """
SELECT c.oid::regclass::text AS relation,
    format('ALTER TABLE %s OWNER TO %I', c.oid::regclass, pg_get_userbyid(c.relowner)) AS statement
FROM unnest($1::oid[], $2::oid[]) WITH ORDINALITY AS u (classid, objid, place)
LEFT JOIN pg_catalog.pg_rewrite w ON u.classid = 'pg_rewrite'::regclass AND w.oid = u.objid
LEFT JOIN pg_catalog.pg_policy p ON u.classid = 'pg_policy'::regclass AND p.oid = u.objid
JOIN pg_catalog.pg_class c ON c.oid IN (w.ev_class, p.polrelid)
WHERE c.oid <> $3 ORDER BY u.place DESC"""


def lock(host: Host, relation: Table, *locked: str, tries: locks.Tries = locks.PATIENT) -> Graph:
    """Locks the dependents and then `locked`, in the order in which readers do. Raises Locked.

    Returns the dependents. From then on nobody can make another one.
    """
    found = graph.find(host, relation)
    while True:
        locks.held(host, {**_locks(host, relation, found), **{name: locks.statement(name) for name in locked}}, tries)
        now = graph.find(host, relation)
        if now == found:
            return now
        found = now


def names_locked(host: Host, relation: Table, found: Graph) -> list[str]:
    """Returns what lock() locks, in its order."""
    return [*_locks(host, relation, found), relation.sql]


def _locks(host: Host, relation: Table, found: Graph) -> dict[str, str]:
    """Returns statements by relations. What is used by others comes last."""
    objects = graph.by_column(node.user for node in found.nodes)
    rows = host.rows(LOCKS, ["oid[]", "oid[]", "oid"], [*objects, relation.oid])
    return {row["relation"]: row["statement"] for row in rows}


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


def unserved(
    host: Host, relation: Table, columns: Iterable[Column], found: Graph, dependents: Sequence[Dependent]
) -> list[str]:
    """Returns a line for each dependent that cannot follow, when a view with these columns has the relation's name."""
    # The rehearsal would read these literals itself.
    foreign = literals.obstacles(host, found)
    return [*found.obstacles, *(foreign or rehearsal.obstacles(host, relation, columns, dependents))]
