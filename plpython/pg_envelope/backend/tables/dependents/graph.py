"""Finds what depends on a table or view and has to follow when another relation takes its name.

Most dependents are changed in place, and what depends on them does not notice. Materialized views, and functions whose
arguments or results have the row type, can only be made again: then what depends on them has to follow, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.tables.inspect import Table
from pg_envelope.records import dataclass

# A catalog's OID and an object's, as pg_depend has them.
Object = tuple[int, int]

# `relation` is what a view's query, a rule or a policy belongs to. `ours` is what the package made for the table.
USERS = """
SELECT DISTINCT d.classid, d.objid, d.objsubid, d.refclassid, d.refobjid,
    CASE WHEN w.rulename = '_RETURN' THEN pg_describe_object('pg_class'::regclass, w.ev_class, 0)
        ELSE pg_describe_object(d.classid, d.objid, d.objsubid) END AS what,
    CASE WHEN w.rulename = '_RETURN' THEN c.relkind::text WHEN w.oid IS NOT NULL THEN 'rule'
        WHEN p.oid IS NOT NULL THEN 'policy' WHEN f.oid IS NOT NULL THEN 'function' ELSE 'other' END AS kind,
    coalesce(w.ev_class, p.polrelid, 0::oid) AS relation,
    f.oid IS NOT NULL AND f.prosqlbody IS NOT NULL AS has_body,
    coalesce(f.prokind IN ('f', 'p', 'w'), false) AS has_definition,
    coalesce(f.proargtypes::oid[] || coalesce(f.proallargtypes, '{}') || f.prorettype, '{}') AS signature,
    coalesce(c.relpersistence = 't', false) AS is_temporary
FROM unnest($1::oid[], $2::oid[]) AS r (classid, objid)
JOIN pg_catalog.pg_depend d ON d.refclassid = r.classid AND d.refobjid = r.objid AND d.deptype = 'n'
LEFT JOIN pg_catalog.pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
LEFT JOIN pg_catalog.pg_class c ON c.oid = w.ev_class
LEFT JOIN pg_catalog.pg_policy p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid
LEFT JOIN pg_catalog.pg_proc f ON d.classid = 'pg_proc'::regclass AND f.oid = d.objid
ORDER BY 1, 2, 3, 4, 5"""
# A relation, its row type and the array type of that.
IDENTITIES = """
SELECT 'pg_class'::regclass::oid AS classid, c.oid FROM pg_catalog.pg_class c WHERE c.oid = $1
UNION ALL SELECT 'pg_type'::regclass::oid, t.oid FROM pg_catalog.pg_type t WHERE t.typrelid = $1
UNION ALL SELECT 'pg_type'::regclass::oid, t.typarray FROM pg_catalog.pg_type t WHERE t.typrelid = $1"""
EDGES = """
SELECT DISTINCT d.classid, d.objid, d.refclassid, d.refobjid
FROM unnest($1::oid[], $2::oid[]) AS r (classid, objid)
JOIN pg_catalog.pg_depend d ON d.classid = r.classid AND d.objid = r.objid AND d.deptype = 'n'"""
# A rule that asks whether to act in the place of a DELETE would end the DELETE of other rows, because it needs a view
# that PostgreSQL itself can update. On a view nobody can set when a rule fires.
OWN_RULES = """
SELECT 'pg_rewrite'::regclass::oid AS classid, oid, format('rule %I', rulename) AS what,
    ev_type = '4' AND is_instead AND ev_qual <> '<>' OR ev_enabled <> 'O' AS is_fixed
FROM pg_catalog.pg_rewrite WHERE ev_class = $1 AND rulename <> '_RETURN' ORDER BY rulename"""
# Triggers that people made on the view. A table could have none of them.
TRIGGERS = """
SELECT format('trigger %I', tgname) AS what FROM pg_catalog.pg_trigger JOIN pg_catalog.pg_class c ON c.oid = tgrelid
WHERE tgrelid = $1 AND c.relkind = 'v' AND NOT tgisinternal AND tgname !~ '^envelope_' ORDER BY tgname"""
CATALOGS = """
SELECT 'pg_class'::regclass::oid AS class, 'pg_type'::regclass::oid AS type, 'pg_proc'::regclass::oid AS proc"""


@dataclass(frozen=True)
class Node:
    """A dependent: `user` is the object that depends, `oid` is its relation, function or policy."""

    kind: str
    what: str
    user: Object
    oid: int


@dataclass(frozen=True)
class Graph:
    """The dependents, each after those that it uses; and what cannot follow, a line each."""

    nodes: list[Node]
    obstacles: list[str]


class _Search:
    """One search, outwards from a relation."""

    def __init__(self, host: Host, relation: Table) -> None:
        self._host = host
        self._relation = relation
        (self.catalogs,) = host.rows(CATALOGS)
        self.nodes: dict[Object, Node] = {}
        self.obstacles: dict[Object, str] = {}
        # What is made again, or gives its name away, with the node behind it.
        self.changed: dict[Object, Node | None] = {}

    def run(self) -> None:
        waiting = self._identities(self._relation.oid)
        self.changed.update(dict.fromkeys(waiting))
        for row in self._host.rows(OWN_RULES, ["oid"], [self._relation.oid]):
            self._note_own(row)
        while waiting:
            found = self._host.rows(USERS, ["oid[]", "oid[]"], by_column(waiting))
            waiting = [identity for row in found for identity in self._visit(row)]

    def _note_own(self, row: Row) -> None:
        user = row["classid"], row["oid"]
        if row["is_fixed"]:
            self.obstacles[user] = f"{row['what']} belongs to it, and a view cannot have such a rule"
        else:
            self.nodes[user] = Node("own rule", row["what"], user, row["oid"])

    def _identities(self, oid: int) -> list[Object]:
        return [(row["classid"], row["oid"]) for row in self._host.rows(IDENTITIES, ["oid"], [oid]) if row["oid"]]

    def _visit(self, row: Row) -> Iterator[Object]:
        """Notes a dependent. Yields the objects that are made again with it."""
        user = row["classid"], row["objid"]
        if user in self.obstacles or (user in self.nodes and self.nodes[user].kind != "function"):
            return
        reason = self._reason(row)
        if reason:
            self.obstacles[user] = reason
        elif row["kind"] in ("v", "rule", "policy", "m", "function") and row["relation"] != self._relation.oid:
            yield from self._note(user, row)

    def _note(self, user: Object, row: Row) -> Iterator[Object]:
        kind = "made function" if row["kind"] == "function" and self._is_in_signature(row) else row["kind"]
        node = Node(kind, row["what"], user, row["relation"] if kind in ("v", "m") else row["objid"])
        self.nodes[user] = node
        made = {"m": lambda: self._identities(node.oid), "made function": lambda: [user]}.get(kind, list)()
        new = [identity for identity in made if identity not in self.changed]
        self.changed.update(dict.fromkeys(new, node))
        yield from new

    def _is_in_signature(self, row: Row) -> bool:
        types = {oid for catalog, oid in self.changed if catalog == self.catalogs["type"]}
        return bool(types & set(row["signature"]))

    def _reason(self, row: Row) -> str | None:
        """Returns why a dependent cannot follow, or None."""
        if row["is_temporary"]:
            return f"{row['what']} is temporary: drop it"
        if row["kind"] == "function" and not (
            row["has_definition"] and (row["has_body"] or self._is_in_signature(row))
        ):
            return f"{row['what']} uses the row type"
        if row["kind"] == "other" and (row["refclassid"], row["refobjid"]) != self._itself():
            used = "a function that" if row["refclassid"] == self.catalogs["proc"] else "the row type, which"
            return f"{row['what']} uses {used} changes"
        return None

    def _itself(self) -> Object:
        return self.catalogs["class"], self._relation.oid

    def kept(self) -> list[str]:
        """Returns the obstacles. A column of a materialized view that is made again is none."""
        return [reason for user, reason in self.obstacles.items() if user not in self.changed]


def find(host: Host, relation: Table) -> Graph:
    """Returns the dependents of a table or view, whatever columns they use."""
    search = _Search(host, relation)
    search.run()
    own = [f"{row['what']} is on the view" for row in host.rows(TRIGGERS, ["oid"], [relation.oid])]
    return Graph(_in_order(host, search), sorted([*own, *search.kept()]))


def _in_order(host: Host, search: _Search) -> list[Node]:
    """Sorts the dependents so that each comes after those that it uses. Of a circle, any may be the first."""
    edges: dict[Object, list[Node]] = {}
    homes = {**{identity: node for identity, node in search.changed.items() if node}, **_homes(search)}
    for row in host.rows(EDGES, ["oid[]", "oid[]"], by_column(search.nodes)):
        used = homes.get((row["refclassid"], row["refobjid"]))
        if used is not None:
            edges.setdefault((row["classid"], row["objid"]), []).append(used)
    done: dict[Object, Node] = {}
    begun: set[Object] = set()

    def visit(node: Node) -> None:
        if node.user in begun:
            return
        begun.add(node.user)
        for used in edges.get(node.user, ()):
            visit(used)
        done[node.user] = node

    for node in search.nodes.values():
        visit(node)
    return list(done.values())


def _homes(search: _Search) -> dict[Object, Node]:
    """Returns what a dependent of a dependent names: a view's relation, or a function."""
    relation = search.catalogs["class"]
    return {
        (relation, node.oid) if node.kind in ("v", "m") else node.user: node
        for node in search.nodes.values()
        if node.kind not in ("rule", "own rule", "policy")
    }


def by_column(objects: Iterable[Object]) -> list[list[int]]:
    """Returns objects as two arrays for unnest(): their catalogs, and their OIDs."""
    listed = list(objects)
    return [[catalog for catalog, _ in listed], [oid for _, oid in listed]]
