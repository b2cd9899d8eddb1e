"""Parses statements. This is the only module that knows pglast, which is PostgreSQL's own parser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from pg_envelope_client.lint.placeholders import neutral
from pg_envelope_client.problems import Problem

try:
    import pglast
    from pglast import enums, parse_sql, parser
except ImportError:
    raise Problem(
        "pglast is not installed", hint="Install it for the command: pip install 'pg-envelope[lint]'"
    ) from None

# Its node classes are made of slots whose types are wide: nearly each may be None.
ast: Any = pglast.ast

__all__ = ["ast", "children", "enums", "parse", "split", "tokens"]


def parse(statement: str) -> tuple[Any, ...]:
    """Returns the parsed statements; () for what PostgreSQL would not take, such as a part of a statement.

    Offsets in them count characters of `statement`.
    """
    for marks in (False, True):
        try:
            return tuple(raw.stmt for raw in parse_sql(neutral(statement, marks=marks)))
        except parser.ParseError:
            continue
    return ()


def split(script: str) -> list[tuple[int, int]]:
    """Returns the start and end of each statement of a script; of the whole script when it cannot be split."""
    try:
        slices = parser.split(neutral(script, marks=False), with_parser=False, only_slices=True)
    except parser.ParseError:
        return [(0, len(script))]
    return [(one.start, one.stop) for one in slices]


class Lexeme(NamedTuple):
    """A word, sign, literal or parameter of a statement: its first character, the one after its last, and its kind."""

    start: int
    end: int
    kind: str


def tokens(statement: str) -> list[Lexeme]:
    """Returns the tokens of a statement; [] when there is one that PostgreSQL does not know."""
    for marks in (False, True):
        try:
            return [Lexeme(one.start, one.end + 1, one.name) for one in parser.scan(neutral(statement, marks=marks))]
        except parser.ParseError:
            continue
    return []


def children(node: Any) -> Iterator[Any]:
    """Yields the nodes directly below a node, those in lists too."""
    if isinstance(node, tuple | list):
        for item in node:
            yield from [item] if isinstance(item, ast.Node) else children(item)
    elif isinstance(node, ast.Node):
        for name in node:
            value = getattr(node, name)
            yield from [value] if isinstance(value, ast.Node) else children(value)
