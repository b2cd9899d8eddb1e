"""Every text of SQL that the package sends: it runs under a pinned search_path, or names each thing with its schema."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pglast
import pytest
from pglast import ast as pg
from pglast.visitors import Visitor

ROOT = Path(__file__).parents[3]
BACKEND = ROOT / "plpython/pg_envelope/backend"
MODULES = {path.relative_to(BACKEND).as_posix(): ast.parse(path.read_text()) for path in BACKEND.rglob("*.py")}
SQL = "".join(path.read_text() for path in sorted((ROOT / "sql").glob("[0-9]*.sql")))

# What runs as the caller and under the caller's search_path, and why: the way to the extension's owner; who calls, for
# the audit log; a regclass's text; and the pin itself.
AS_CALLER = {
    ("asker.py", "WHO"),
    ("host.py", "RUN_STEP"),
    ("host.py", "RELATION"),
    ("host.py", "PIN"),
}
# These are given the Host that pins nothing. All their other statements are in steps of Host.as_owner: behind a
# SECURITY DEFINER function that pins the path.
WITH_HOST = {
    "Guard", "Asker", "Clients", "Loader", "Authority", "Scopes", "Prefetch", "Reads", "SessionSecrets", "Exchanges",
    "Legacy", "Masks",
}  # fmt: skip


def constants() -> dict[tuple[str, str], str]:
    """The texts that modules hold as constants, by module and name."""
    return {
        (module, target.id): node.value.value
        for module, tree in MODULES.items()
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value.value, str)
    }


class Unqualified(Visitor):
    """Collects what is looked up in the search_path."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def _name(self, names: Any) -> None:
        if len(names) < 2:
            self.found.append(names[-1].sval)

    def visit_FuncCall(self, _: Any, node: Any) -> None:
        self._name(node.funcname)

    def visit_A_Expr(self, _: Any, node: Any) -> None:
        self._name(node.name)

    def visit_TypeName(self, _: Any, node: Any) -> None:
        self._name(node.names)

    def visit_RangeVar(self, _: Any, node: Any) -> None:
        if not node.schemaname:
            self.found.append(node.relname)


def unqualified(statement: str) -> list[str]:
    visitor = Unqualified()
    visitor(pglast.parse_sql(statement))
    return visitor.found


def test_the_visitor_sees_what_is_not_qualified() -> None:
    assert unqualified("SELECT lower(a), b = 1, c::uuid FROM t") == ["t", "lower", "=", "uuid"]


@pytest.mark.parametrize(("module", "name"), sorted(AS_CALLER))
def test_a_statement_for_the_caller_is_qualified(module: str, name: str) -> None:
    assert unqualified(constants()[module, name]) == []


def calls(tree: ast.AST, method: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method:
            yield node


def given_host() -> Iterator[tuple[str, str]]:
    """Which class is given which host in Session."""
    for node in ast.walk(MODULES["session.py"]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
                text = ast.unparse(argument)
                if text in ("self.host", "self.pinned"):
                    yield node.func.id, text.split(".")[1]


def test_only_who_serves_the_caller_has_a_host_that_does_not_pin() -> None:
    given = set(given_host())
    assert {name for name, host in given if host == "host"} == WITH_HOST
    assert {name for name, host in given if host == "pinned"} >= {"AdminTools", "Tenants", "Passwords", "SecretAdmin"}
    made = [module for module, tree in MODULES.items() for call in ast.walk(tree) if makes_a_host(call)]
    # start.py makes one for errors only, before there is a session.
    assert sorted(made) == ["session.py", "session.py", "start.py"]


def makes_a_host(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("Host", "PinnedHost")


@cache
def functions() -> dict[str, pg.CreateFunctionStmt]:
    return {
        ".".join(part.sval for part in raw.stmt.funcname): raw.stmt
        for raw in pglast.parse_sql(SQL)
        if isinstance(raw.stmt, pg.CreateFunctionStmt)
    }


def test_a_step_as_the_owner_is_pinned() -> None:
    options = functions()["envelope_internal.run_step"].options
    assert [option.arg.boolval for option in options if option.defname == "security"] == [True]
    assert "search_path" in [option.arg.name for option in options if option.defname == "set"]


def test_host_pins_every_statement_that_administers() -> None:
    """All of PinnedHost's ways to a statement, but those for a setting and a relation's text."""
    classes = {node.name: node for node in MODULES["host.py"].body if isinstance(node, ast.ClassDef)}
    ways = {"rows": "_pinned()", "catalog_rows": "_pinned(GENERIC)", "run": "_pinned()", "once": "_pinned()"}
    own = {node.name: ast.unparse(node) for node in classes["PinnedHost"].body if isinstance(node, ast.FunctionDef)}
    assert all(f"with self.{pin}" in own[way] for way, pin in ways.items())
    executes = {
        node.name
        for node in classes["Host"].body
        if isinstance(node, ast.FunctionDef) and "self._plpy.execute(" in ast.unparse(node)
    }
    assert executes == {"run", "once", "setting", "interrupts", "_rows"}


def sent(*ways: str) -> Iterator[str]:
    """What modules give to these methods of a host, as far as the text begins in the same module."""
    for module, tree in MODULES.items():
        for call in (call for way in ways for call in calls(tree, way) if call.args):
            given = call.args[0]
            if isinstance(given, ast.Name):
                yield constants().get((module, given.id), "")
            else:
                yield ast.unparse(given).lstrip("f").strip("'\"")


def test_a_setting_goes_where_no_nest_level_undoes_it() -> None:
    # SET CONSTRAINTS is no setting: it holds for the transaction.
    setting = re.compile(r"\s*(SET|RESET) (?!CONSTRAINTS )|LIMIT\.format\(")
    assert list(sent("setting"))
    assert [text for text in sent("setting") if not setting.match(text)] == []
    assert [text for text in sent("run", "rows", "row", "catalog_rows", "count") if setting.match(text)] == []


def bodies() -> Iterator[tuple[str, str]]:
    """What bodies in Python, which pin nothing themselves, send."""
    for name, function in functions().items():
        options = {option.defname: option.arg for option in function.options}
        if options["language"].sval == "plpython3u" and "set" not in options:
            yield from ((name, text) for text in re.findall(r"plpy\.\w+\('([^']+)'", options["as"][0].sval))


def test_bodies_in_python_name_everything_with_its_schema() -> None:
    found = dict(bodies())
    assert len(found) > 10
    assert {name: unqualified(text) for name, text in found.items() if unqualified(text)} == {}


def test_the_script_pins_its_path_first() -> None:
    first = pglast.parse_sql(SQL)[0].stmt
    assert isinstance(first, pg.VariableSetStmt)
    assert (first.name, first.is_local) == ("search_path", True)
