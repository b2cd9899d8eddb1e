"""Finds the statements of SQL files, of Python sources and of PostgreSQL's logs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pg_envelope_client.lint import grammar
from pg_envelope_client.problems import Problem

STATEMENT = re.compile(r"\s*(?:--[^\n]*\n\s*|/\*.*?\*/\s*)*(?:SELECT|INSERT|UPDATE|DELETE|WITH|MERGE)\b", re.I | re.S)
# What log_statement and log_min_duration_statement write. Further lines of a statement begin with a tab.
LOGGED = re.compile(r"(?:LOG|STATEMENT):\s+(?:duration: \S+ ms\s+)?(?:(?:statement|execute [^:]*):\s+)?(.*)")
META = re.compile(r"^\\.*$", re.M)


@dataclass(frozen=True)
class PlacedStatement:
    """A statement, and its place: a file or `query`, and the line (from 1) on which it begins."""

    place: str
    line: int
    text: str

    def at(self, offset: int) -> str:
        """Returns the place of a character of the statement, for people and editors."""
        return f"{self.place}:{self.line + self.text.count(chr(10), 0, offset)}"


def of_file(path: Path) -> list[PlacedStatement]:
    """Returns the statements of a file, by its name: .py, .log, and all others as SQL. Raises Problem."""
    try:
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise Problem(f"{path} is not text in UTF-8", hint="Name SQL files, Python sources or logs.") from None
    found = {".py": _of_python, ".log": _of_log}.get(path.suffix, _of_sql)(content)
    return [PlacedStatement(str(path), line, text) for line, text in found]


def of_folder(path: Path) -> list[PlacedStatement]:
    """Returns the statements of a file, or of all .sql and .py files below a folder."""
    if not path.is_dir():
        return of_file(path)
    files = sorted(one for one in path.rglob("*") if one.suffix in (".sql", ".py") and one.is_file())
    return [source for one in files for source in of_file(one)]


def _of_sql(content: str) -> Iterator[tuple[int, str]]:
    blanked = META.sub(lambda match: " " * len(match[0]), content)
    for start, end in grammar.split(blanked):
        text = blanked[start:end]
        begin = start + len(text) - len(text.lstrip())
        yield content.count("\n", 0, begin) + 1, content[begin:end]


def _of_python(content: str) -> Iterable[tuple[int, str]]:
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return ()
    found = ((node.lineno, _text(node)) for node in _strings(tree))
    return [(line, text) for line, text in found if STATEMENT.match(text)]


def _strings(tree: ast.AST) -> Iterator[ast.Constant | ast.JoinedStr]:
    """Yields whole strings. The parts of an f-string are no statements by themselves."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.JoinedStr) or (isinstance(child, ast.Constant) and isinstance(child.value, str)):
            yield child
        else:
            yield from _strings(child)


def _text(node: ast.Constant | ast.JoinedStr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return "".join(map(str, parts))


def _of_log(content: str) -> Iterator[tuple[int, str]]:
    line, lines = 0, list[str]()
    for number, text in enumerate(content.splitlines(), 1):
        if lines and text.startswith("\t"):
            lines.append(text[1:])
            continue
        if lines:
            yield line, "\n".join(lines)
        logged = LOGGED.search(text)
        line, lines = number, [logged[1]] if logged and STATEMENT.match(logged[1]) else []
    if lines:
        yield line, "\n".join(lines)
