"""Tells which protected column a name in a statement means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pg_envelope_client.lint.grammar import ast, children, enums
from pg_envelope_client.lint.protected import KnownTable, KnownTables, Search

EQUAL, CANDIDATES = "=", ("@>", "<@")
_ONE = enums.A_Expr_Kind.AEXPR_OP
# In which kinds of comparisons an index serves an operator.
KINDS = {
    EQUAL: (_ONE, enums.A_Expr_Kind.AEXPR_IN, enums.A_Expr_Kind.AEXPR_OP_ANY),
    **dict.fromkeys(CANDIDATES, (_ONE,)),
}


class NamedColumn(NamedTuple):
    """A protected column that a statement names; with `search`, one of its search columns."""

    table: KnownTable
    name: str
    node: Any
    search: Search | None


@dataclass(frozen=True)
class Scope:
    """The tables of one level of a statement, by the name they have there, and the level around it."""

    tables: Mapping[str, KnownTable | None] = field(default_factory=dict)
    outer: Scope | None = None
    # Names of WITH queries, which hide tables.
    queries: frozenset[str] = frozenset()
    # Tables of which a search column finds the rows. What else is asked of their columns decrypts these rows alone.
    narrowed: frozenset[str] = frozenset()

    def column(self, node: Any) -> NamedColumn | None:
        """Returns the protected column, or its search column, that a node names; None for all else."""
        parts = _names(node)
        if not parts:
            return None
        found = self._in_table(self.tables, parts, node)
        if found is None:
            return self.outer.column(node) if self.outer else None
        return None if found.search is None and self._is_narrowed(parts, found.table) else found

    def _is_narrowed(self, parts: list[str], table: KnownTable) -> bool:
        named = parts[-2:-1] or [name for name, one in self.tables.items() if one is table]
        return self.narrowed.issuperset(named)

    def _in_table(self, tables: Mapping[str, KnownTable | None], parts: list[str], node: Any) -> NamedColumn | None:
        named = [tables.get(parts[-2])] if len(parts) > 1 else tables.values()
        for table in named:
            if table and parts[-1] in table.columns:
                return NamedColumn(table, parts[-1], node, None)
            if table and (search := table.search(parts[-1])):
                return NamedColumn(table, parts[-1], node, search)
        return None

    def hidden(self) -> frozenset[str]:
        return self.queries | (self.outer.hidden() if self.outer else frozenset())


def _names(node: Any) -> list[str]:
    if not isinstance(node, ast.ColumnRef) or not all(isinstance(one, ast.String) for one in node.fields):
        return []
    return [one.sval for one in node.fields]


def scope_of(protected: KnownTables, relations: Any, where: Any, outer: Scope | None, queries: frozenset[str]) -> Scope:
    """Returns the scope of a FROM list.

    A table of which the primary key is given is left out: one row is decrypted, which is what is wanted. Of a
    table whose rows a search column finds, only its search columns are kept.
    """
    hidden = queries | (outer.hidden() if outer else frozenset())
    tables: dict[str, KnownTable | None] = {}
    for node in _range_vars(relations):
        name = node.alias.aliasname if node.alias else node.relname
        is_query = node.schemaname is None and node.relname in hidden
        tables[name] = None if is_query else protected.find(node.schemaname, node.relname)
    few = {name for name, table in tables.items() if table and _one_row(name, table, where, len(tables) == 1)}
    alone = len(tables) == 1
    narrowed = {name for name, table in tables.items() if table and _is_narrowed(name, table, where, alone)}
    left = {name: None if name in few else table for name, table in tables.items()}
    return Scope(left, outer, queries, frozenset(narrowed))


def _range_vars(node: Any) -> list[Any]:
    """Returns the tables of a FROM list, but not those of sub-selects in it."""
    if isinstance(node, ast.RangeVar):
        return [node]
    if isinstance(node, ast.RangeSubselect | ast.SubLink):
        return []
    return [found for child in children(node) for found in _range_vars(child)]


def _one_row(name: str, table: KnownTable, where: Any, alone: bool) -> bool:
    given = {parts[-1] for parts in _given(where, EQUAL) if parts[:-1] == [name] or (alone and len(parts) == 1)}
    return bool(table.primary_key) and table.primary_key <= given


def _is_narrowed(name: str, table: KnownTable, where: Any, alone: bool) -> bool:
    given = {
        (parts[-1], operator)
        for operator in (EQUAL, *CANDIDATES)
        for parts in _given(where, operator)
        if parts[:-1] == [name] or (alone and len(parts) == 1)
    }
    found = ((table.search(column), operator) for column, operator in given)
    return any(search and search.is_equality is (operator == EQUAL) for search, operator in found)


def _given(node: Any, operator: str) -> list[list[str]]:
    """Returns the names of the columns that a condition compares with constants or parameters."""
    if isinstance(node, ast.BoolExpr) and node.boolop == enums.BoolExprType.AND_EXPR:
        return [names for arg in node.args for names in _given(arg, operator)]
    if not isinstance(node, ast.A_Expr) or node.kind not in KINDS[operator] or node.name[-1].sval != operator:
        return []
    sides = ((node.lexpr, node.rexpr), (node.rexpr, node.lexpr))
    return [names for one, other in sides if (names := _names(one)) and not _refers(other)]


def _refers(node: Any) -> bool:
    return isinstance(node, ast.ColumnRef | ast.SubLink) or any(map(_refers, children(node)))
