"""Walks over a statement, and hands its comparisons, orders and groups to those who judge them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pg_envelope import slow_words
from pg_envelope.slow_words import GROUPS, SORT_LESS, SORTS
from pg_envelope_client.lint import grammar
from pg_envelope_client.lint.comparing import Comparing
from pg_envelope_client.lint.findings import Remark, add_first, renamed, title
from pg_envelope_client.lint.grammar import ast, enums
from pg_envelope_client.lint.protected import KnownTables
from pg_envelope_client.lint.scope import NamedColumn, Scope, scope_of

# A candidate that is no answer does no harm here: another condition decides.
POSITIVE = (enums.BoolTestType.IS_TRUE, enums.BoolTestType.IS_NOT_FALSE)


def found_in(statement: str, protected: KnownTables) -> list[Remark]:
    """Returns what a statement does that decrypts each row of a table, in the order of its text."""
    walk = _Walk(statement, protected)
    findings = [one for node in grammar.parse(statement) for one in walk.node(node, None)]
    return sorted(set(findings), key=lambda one: (one.offset, one.column))


class _Walk:
    def __init__(self, statement: str, protected: KnownTables) -> None:
        self._statement, self._protected = statement, protected
        self._comparing = Comparing(statement)

    def node(self, node: Any, outer: Scope | None) -> Iterator[Remark]:
        """Yields what is found at and below a node that is no condition."""
        match node:
            case ast.SelectStmt() if node.larg:
                yield from self._parts((node.withClause, node.larg, node.rarg), self._named(node, outer))
            case ast.SelectStmt():
                yield from self._select(node, outer)
            case ast.UpdateStmt():
                yield from self._changing(node, (node.relation, node.fromClause), node.whereClause, outer)
            case ast.DeleteStmt():
                yield from self._changing(node, (node.relation, node.usingClause), node.whereClause, outer)
            case ast.MergeStmt():
                yield from self._changing(node, (node.relation, node.sourceRelation), node.joinCondition, outer)
            case ast.FuncCall() if node.agg_distinct and outer:
                counts = node.funcname[-1].sval == "count"
                yield from self._equal(node.args or (), outer, replaces=counts)
            case _:
                yield from self._parts((node,), outer, below=True)

    def _parts(self, nodes: Any, scope: Scope | None, *, below: bool = False) -> Iterator[Remark]:
        for node in nodes:
            for child in grammar.children(node) if below else grammar.children((node,)):
                yield from self.node(child, scope)

    def _named(self, node: Any, outer: Scope | None) -> Scope:
        """The scope of WITH queries, which hide tables of the same name."""
        queries = node.withClause.ctes if node.withClause else ()
        return Scope({}, outer, frozenset(one.ctename for one in queries))

    def _select(self, node: Any, outer: Scope | None) -> Iterator[Remark]:
        named = self._named(node, outer)
        scope = scope_of(self._protected, node.fromClause, node.whereClause, named, named.queries)
        yield from self._parts((node.withClause,), named)
        yield from self._relations(node.fromClause, scope)
        yield from self.condition(node.whereClause, scope)
        yield from self.condition(node.havingClause, scope)
        yield from self._parts((node.targetList, node.valuesLists, node.limitCount, node.limitOffset), scope)
        yield from self._sorted(node, scope)
        yield from self._grouped(node, scope)

    def _changing(self, node: Any, relations: Any, where: Any, outer: Scope | None) -> Iterator[Remark]:
        named = self._named(node, outer)
        scope = scope_of(self._protected, relations, where, named, named.queries)
        yield from self._parts((node.withClause,), named)
        yield from self._relations(relations, scope)
        yield from self.condition(where, scope)
        if where is not None:
            yield from self._comparing.changed(where, scope)
        yield from self._parts((getattr(node, "targetList", None),), scope)

    def _relations(self, node: Any, scope: Scope) -> Iterator[Remark]:
        match node:
            case ast.JoinExpr():
                yield from self._relations((node.larg, node.rarg), scope)
                yield from self.condition(node.quals, scope)
                yield from self._using(node, scope)
            case tuple() | list():
                for one in node:
                    yield from self._relations(one, scope)
            case ast.RangeVar() | None:
                return
            case _:
                yield from self._parts((node,), scope)

    def _using(self, node: Any, scope: Scope) -> Iterator[Remark]:
        for name in node.usingClause or ():
            tables = [table for table in scope.tables.values() if table and name.sval in table.columns]
            for table in tables[:1]:
                instead = "Write ON with the search columns of both tables."
                yield Remark(0, f"{table.name}.{name.sval}", "decrypts each row to join", instead)

    def condition(self, node: Any, scope: Scope) -> Iterator[Remark]:
        """Yields what is found in WHERE, ON or HAVING."""
        match node:
            case None:
                return
            case ast.BoolExpr():
                if node.boolop == enums.BoolExprType.NOT_EXPR:
                    yield from self._comparing.candidates(node, scope)
                for arg in node.args:
                    yield from self.condition(arg, scope)
            case ast.BooleanTest():
                if node.booltesttype not in POSITIVE:
                    yield from self._comparing.candidates(node.arg, scope)
                yield from self.condition(node.arg, scope)
            case ast.A_Expr():
                yield from self._comparing.judge(node, scope)
                for side in (node.lexpr, node.rexpr):
                    yield from self._comparing.candidates(side, scope) if side else ()
                yield from self._parts((node.lexpr, node.rexpr), scope)
            case ast.NullTest() if column := scope.column(node.arg):
                yield from self._comparing.empty(column)
            case ast.SubLink():
                if column := scope.column(node.testexpr):
                    yield from self._comparing.equal(column)
                yield from self._parts((node.subselect,), scope)
            case _:
                yield from self._comparing.within(node, scope)
                yield from self._comparing.candidates(node, scope)
                yield from self._parts((node,), scope)

    def _sorted(self, node: Any, scope: Scope) -> Iterator[Remark]:
        for one in node.sortClause or ():
            column = scope.column(_target(node, one.node))
            if column and column.search:
                yield self._at(one.node, column, "sorts by tokens, which have no order", "Sort by the column itself.")
            elif column:
                yield self._at(one.node, column, SORTS, SORT_LESS)

    def _grouped(self, node: Any, scope: Scope) -> Iterator[Remark]:
        yield from self._equal([_target(node, one) for one in node.groupClause or ()], scope)
        if node.distinctClause is None:
            return
        distinct = [one for one in node.distinctClause if one] or [one.val for one in node.targetList or ()]
        yield from self._equal(distinct, scope)

    def _equal(self, nodes: Any, scope: Scope, *, replaces: bool = False) -> Iterator[Remark]:
        """Yields a finding for each protected column. With `replaces`, nobody sees which value it was."""
        for node in nodes:
            column = scope.column(node)
            if column and not column.search:
                search = column.table.exact(column.name)
                edit = renamed(self._statement, column, search.name) if search and replaces else None
                instead = slow_words.compare(search.name) if search else add_first(column)
                yield self._at(node, column, GROUPS, instead, edit)

    def _at(self, node: Any, column: NamedColumn, what: str, instead: str, edit: Any = None) -> Remark:
        place = node.location if getattr(node, "location", None) else column.node.location
        return Remark(max(place, 0), title(column), what, instead, (edit,) if edit else ())


def _target(select: Any, node: Any) -> Any:
    """Returns what ORDER BY 2, or ORDER BY and GROUP BY of an output name, stand for."""
    targets = select.targetList or ()
    if isinstance(node, ast.A_Const) and isinstance(node.val, ast.Integer) and 0 < node.val.ival <= len(targets):
        return targets[node.val.ival - 1].val
    if isinstance(node, ast.ColumnRef) and len(node.fields) == 1 and isinstance(node.fields[0], ast.String):
        return next((one.val for one in targets if one.name == node.fields[0].sval), node)
    return node
