"""Judges comparisons: which of them decrypt each row, and which a search column answers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from typing import Any

from pg_envelope import slow_words
from pg_envelope.slow_words import DECRYPTS, NO_ORDER, quoted
from pg_envelope_client.lint import grammar
from pg_envelope_client.lint.findings import Edit, Remark, add_first, renamed, title, unwrapped
from pg_envelope_client.lint.grammar import ast, enums
from pg_envelope_client.lint.protected import HAVING, MATCH, RANGE
from pg_envelope_client.lint.scope import NamedColumn, Scope

KINDS = enums.A_Expr_Kind
EQUAL = (KINDS.AEXPR_OP, KINDS.AEXPR_OP_ANY, KINDS.AEXPR_IN)
BETWEEN = (
    KINDS.AEXPR_BETWEEN,
    KINDS.AEXPR_BETWEEN_SYM,
)
# LIKE and ILIKE, but not NOT LIKE.
LIKE = ("~~", "~~*")
LISTS = {KINDS.AEXPR_OP_ANY: "OR", KINDS.AEXPR_OP_ALL: "AND"}
CONTAINS, WITHIN = "@>", "<@"
# What is said of another operator beside such a search column, and what it has.
OTHERS = {
    MATCH: ("is refused: a match search has no other operator than @>", "Write @> and a pattern of LIKE.", (CONTAINS,)),
    HAVING: ("is refused: a contains search has no other operator than @>", "Write @> and a jsonb.", (CONTAINS,)),
    RANGE: ("is refused: a range search has no other operator than <@", "Write <@ and a range.", (WITHIN, CONTAINS)),
}
ORDERED = ("<", "<=", ">", ">=", WITHIN)
FOLDING = ("lower", "upper")
FOLDED = ("casefold", "email", "unaccent")
LITERALS = ("SCONST", "ICONST", "FCONST", "PARAM")
# A comma, and the bracket after the last.
ENDS_AN_ELEMENT = ("ASCII_44", "ASCII_41")


class Comparing:
    """Judges the comparisons of one statement."""

    def __init__(self, statement: str) -> None:
        self._statement = statement

    @cached_property
    def _tokens(self) -> list[grammar.Lexeme]:
        return grammar.tokens(self._statement)

    def judge(self, node: Any, scope: Scope) -> Iterator[Remark]:
        """Yields what is found in one comparison (A_Expr)."""
        left, right = scope.column(node.lexpr), scope.column(node.rexpr)
        if left and right:
            yield from self._pair(node, left, right)
        elif column := left or right:
            yield from self._one(node, column)
        else:
            yield from self._folded(node, scope) or self.within(node, scope)

    def empty(self, column: NamedColumn) -> Iterator[Remark]:
        """Yields the finding for IS NULL of a column. A looser search may have no token for a value."""
        if column.search is None:
            exact = column.table.exact(column.name)
            what = "decrypts each row to see whether it is NULL"
            yield self._found(column, what, exact.name) if exact else self._unanswered(column)

    def equal(self, column: NamedColumn) -> Iterator[Remark]:
        """Yields the finding for a column that is only compared for equality, as by IN (SELECT ...)."""
        if column.search is None:
            yield self._answered(column)

    def within(self, node: Any, scope: Scope) -> list[Remark]:
        """Returns a finding for each protected column below a node, apart from those in sub-selects."""
        found = scope.column(node)
        if found and not found.search:
            return [Remark(node.location, title(found), DECRYPTS, NO_ORDER)]
        below = [] if isinstance(node, ast.SubLink) else grammar.children(node)
        return [one for child in below for one in self.within(child, scope)]

    def candidates(self, node: Any, scope: Scope) -> Iterator[Remark]:
        """Yields a finding for each search for candidates at or below a node whose truth is turned round, or counted as
        that of an answer.
        """
        for column in _searched(node, scope):
            instead = slow_words.negate(column.table.source(column.name))
            yield Remark(column.node.location, title(column), slow_words.MISSES, instead)

    def changed(self, where: Any, scope: Scope) -> Iterator[Remark]:
        """Yields a finding for each search for candidates in the WHERE of a statement that changes rows, where no
        condition on the value itself decides.
        """
        for column in _searched(where, scope):
            source = column.table.source(column.name)
            if not _names(where, source):
                instead = slow_words.compare_too(source)
                yield Remark(column.node.location, title(column), slow_words.CHANGES, instead)

    def _one(self, node: Any, column: NamedColumn) -> Iterator[Remark]:
        equality = node.kind in EQUAL and node.name[-1].sval in ("=", "<>")
        if column.search:
            yield from self._misused(node, column, equality)
        elif not equality:
            narrowed = _by_parts(node, column) or _by_range(node, column)
            yield Remark(column.node.location, title(column), DECRYPTS, narrowed or NO_ORDER)
        else:
            found = self._answered(column, node)
            typed = self._typed(node) if found.edits else ()
            yield Remark(found.offset, found.column, found.what, found.instead, (*found.edits, *typed))

    def _misused(self, node: Any, column: NamedColumn, equality: bool) -> Iterator[Remark]:
        if column.search and not column.search.is_equality:
            what, instead, operators = OTHERS[column.search.kind]
            sign = node.name[-1].sval
            if sign not in operators:
                yield Remark(column.node.location, title(column), what, instead)
            elif node.kind in LISTS:
                several = f"Write several {sign} with {LISTS[node.kind]}."
                yield Remark(column.node.location, title(column), slow_words.NO_INDEX, several)
        elif not equality:
            yield Remark(column.node.location, title(column), "is refused: tokens have no order", NO_ORDER)
        elif edits := self._typed(node):
            what = "is refused: PostgreSQL takes a literal without a type for a token"
            yield Remark(column.node.location, title(column), what, "Give the literals a type, such as ::text.", edits)

    def _typed(self, node: Any) -> tuple[Edit, ...]:
        """The literals of an IN list need a type beside a search column. Those with a cast have one."""
        if node.kind != KINDS.AEXPR_IN:
            return ()
        inside = [one for one in self._tokens if node.rexpr_list_start <= one.start <= node.rexpr_list_end]
        alone = (one for one, after in pairwise(inside) if one.kind == "SCONST" and after.kind in ENDS_AN_ELEMENT)
        return tuple(Edit(one.end, one.end, "::text") for one in alone)

    def _answered(self, column: NamedColumn, node: Any = None) -> Remark:
        """Returns the finding for an equality, with the edits if a search column answers it."""
        table, name = column.table, column.name
        if search := table.exact(name):
            return self._found(column, DECRYPTS, search.name)
        if node and node.name[-1].sval == "<>":
            return Remark(column.node.location, title(column), DECRYPTS, NO_ORDER)
        if search := table.looser(name):
            both = f"{quoted(search.name)} = ... AND {quoted(name)} = ..."
            return Remark(
                column.node.location,
                title(column),
                DECRYPTS,
                f"Write {both}: {search.name} takes more values for equal.",
                self._narrowed(column, node, search.name),
            )
        return self._unanswered(column)

    def _unanswered(self, column: NamedColumn) -> Remark:
        return Remark(column.node.location, title(column), DECRYPTS, add_first(column))

    def _narrowed(self, column: NamedColumn, node: Any, name: str) -> tuple[Edit, ...]:
        """Puts the search before a comparison whose other side is one literal or parameter."""
        start, to = column.node.location, renamed(self._statement, column, name)
        value = self._after(node) if node else None
        if value is None or to is None or start > value.start:
            return ()
        given = self._statement[value.start : value.end]
        before = f"({self._statement[start : to.start]}{to.text} = {given} AND "
        return Edit(start, start, before), Edit(value.end, value.end, ")")

    def _after(self, node: Any) -> grammar.Lexeme | None:
        """Returns the token after a comparison's operator, if it is all of the other side."""
        if node.kind != KINDS.AEXPR_OP or not isinstance(node.rexpr, ast.A_Const | ast.ParamRef):
            return None
        after = (one for before, one in pairwise(self._tokens) if before.start == node.location)
        return next((one for one in after if one.kind in LITERALS), None)

    def _pair(self, node: Any, left: NamedColumn, right: NamedColumn) -> Iterator[Remark]:
        plain = [one for one in (left, right) if not one.search]
        if node.name[-1].sval not in ("=", "<>"):
            yield from (Remark(one.node.location, title(one), DECRYPTS, NO_ORDER) for one in plain)
            return
        keys = {(one.search or one.table.exact(one.name)) for one in (left, right)}
        if None not in keys and len({search.key for search in keys if search}) > 1:
            instead = 'Give both columns one search key: {"search": {"exact": {"key": ...}}}.'
            yield Remark(left.node.location, title(left), "is joined to a column with another search key", instead)
        else:
            yield from map(self._answered, plain)

    def _folded(self, node: Any, scope: Scope) -> list[Remark]:
        """Returns the finding for lower(column) = ..., if a search column without regard to case answers it."""
        if node.kind not in EQUAL or node.name[-1].sval != "=":
            return []
        for call in (node.lexpr, node.rexpr):
            column = _folding(call, scope)
            search = column and next((s for s in column.table.columns[column.name] if s.normalizer in FOLDED), None)
            if column and search:
                edit = unwrapped(self._statement, call, column, search.name)
                instead = f"Write {quoted(search.name)} = ..."
                return [Remark(call.location, title(column), DECRYPTS, instead, (edit,) if edit else ())]
        return []

    def _found(self, column: NamedColumn, what: str, name: str) -> Remark:
        edit = renamed(self._statement, column, name)
        edits = (edit,) if edit else ()
        return Remark(column.node.location, title(column), what, slow_words.compare(name), edits)


def _searched(node: Any, scope: Scope) -> Iterator[NamedColumn]:
    """Yields the search columns by which candidates are found at or below a node, but in no sub-select."""
    column = (scope.column(node.lexpr) or scope.column(node.rexpr)) if isinstance(node, ast.A_Expr) else None
    if column and column.search and not column.search.is_equality:
        yield column
    for child in () if isinstance(node, ast.SubLink) else grammar.children(node):
        yield from _searched(child, scope)


def _names(node: Any, column: str) -> bool:
    """Tells whether a column is named at or below a node."""
    if isinstance(node, ast.ColumnRef) and isinstance(node.fields[-1], ast.String):
        return bool(node.fields[-1].sval == column)
    return any(_names(child, column) for child in grammar.children(node))


def _by_parts(node: Any, column: NamedColumn) -> str | None:
    """Says how a match search narrows LIKE and ILIKE, and a contains search @>, if the column has one."""
    if node.name[-1].sval == CONTAINS and (search := column.table.having(column.name)):
        return slow_words.by_content(search.name, column.name)
    search = column.table.match(column.name)
    if node.name[-1].sval not in LIKE or search is None:
        return None
    return slow_words.by_pattern(search.name, column.name)


def _by_range(node: Any, column: NamedColumn) -> str | None:
    """Says how a range search narrows comparisons of order, if the column has one."""
    search = column.table.range(column.name)
    if search is None or not (node.kind in BETWEEN or node.name[-1].sval in ORDERED):
        return None
    return slow_words.by_range(search.name, column.name)


def _folding(call: Any, scope: Scope) -> NamedColumn | None:
    if not isinstance(call, ast.FuncCall) or call.funcname[-1].sval not in FOLDING or len(call.args or ()) != 1:
        return None
    column = scope.column(call.args[0])
    return column if column and not column.search else None
