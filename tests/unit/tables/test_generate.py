"""What generate.py writes parses, names only what it should, and cannot be broken out of by a hostile name."""

from __future__ import annotations

import contextlib
import json

import pglast
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pglast import ast, enums
from pglast.visitors import Visitor

from pg_envelope.backend.field_options import FieldOptions
from pg_envelope.backend.sqltext import NAME_BYTES, derived_name, ident, literal
from pg_envelope.backend.tables import generate
from pg_envelope.backend.tables.generate import Layout, Protected, upsert
from pg_envelope.backend.tables.generate.expressions import row_key
from pg_envelope.backend.tables.inspect import Check, Column
from pg_envelope.records import replace

KEY = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
UUID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
HOSTILE = [
    'a"b',
    "a'b",
    "$pg_envelope$",
    "x; DROP TABLE y; --",
    "new",
    "t",
    "Ünd er",
    "select",
    "\\",
    "/*",
    "a\nb",
    "$$",
    "%s",
]
CHARACTERS = st.characters(blacklist_characters="\0", blacklist_categories=("Cs",))
# PostgreSQL knows no longer ones.
names = st.sampled_from(HOSTILE) | st.text(CHARACTERS, min_size=1).filter(lambda name: len(name.encode()) <= NAME_BYTES)


def column(number: int, name: str, type: str = "text", **given: object) -> Column:
    known: dict[str, object] = {
        "attnum": number,
        "name": name,
        "type": type,
        "base_type": type,
        "element_type": "",
        "kind": "b",
        "not_null": False,
        "identity": "",
        "generated": "",
        "storage": "x",
        "compression": "",
        "collation": None,
        "default": None,
        "comment": None,
        "sequence": None,
    }
    return Column(**{**known, **given})  # type: ignore[arg-type]


def layout(schema: str, table: str, key: str, secret: str, by_role: bool = False, as_caller: bool = False) -> Layout:
    protected = column(2, secret, not_null=True, collation='"C"')
    check = Check(
        name=table,
        expression=f"{ident(secret)} > ''",
        validated=True,
        enforced=True,
        no_inherit=False,
        comment=None,
        columns=frozenset({secret}),
        runs_code=False,
    )
    return Layout(
        key_uuid=KEY,
        inputs={secret: generate.input_name(secret)},
        schema=schema,
        view_name=table,
        base_name=derived_name(table, "_encrypted"),
        columns=(
            column(1, key, "timestamptz", identity="a", sequence=f"{ident(schema)}.{ident(key)}"),
            protected,
            column(3, f"{key}{secret}3", "int4", generated="s"),
        ),
        protected={secret: Protected(protected, UUID, FieldOptions())},
        row_key={key: "OPERATOR(pg_catalog.=)"},
        checks=(check,),
        by_role=by_role,
        as_caller=as_caller or by_role,
    )


class Relations(Visitor):
    """The relations and functions that a tree names."""

    def __init__(self) -> None:
        super().__init__()
        self.relations: set[tuple[str | None, str]] = set()
        self.functions: set[str] = set()

    def visit_RangeVar(self, ancestors: object, node: ast.RangeVar) -> None:
        self.relations.add((node.schemaname, node.relname))

    def visit_FuncCall(self, ancestors: object, node: ast.FuncCall) -> None:
        self.functions.add(".".join(part.sval for part in node.funcname))


def found_in(statement: str) -> Relations:
    found = Relations()
    found(pglast.parse_sql(statement))
    return found


def plpgsql_statements(function: str) -> list[str]:
    """Every query and expression in a PL/pgSQL function, as PL/pgSQL's own parser finds them."""
    queries: list[str] = []

    def walk(node: object) -> None:
        if isinstance(node, dict):
            if "query" in node:
                queries.append(node["query"])
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    walk(json.loads(pglast.parser.parse_plpgsql_json(function)))
    return queries


MODES = st.sampled_from([(False, False), (False, True), (True, True)])


def statements(made: Layout) -> list[str]:
    upserts = [upsert.view(made), upsert.filled(made), f"ALTER VIEW v {upsert.default(made, made.columns[1])}"]
    made_once = [*generate.rights(made).values(), generate.view(made), *upserts]
    return [*made_once, *generate.functions(made), *generate.triggers(made)]


@given(names, names, names, names, MODES)
def test_everything_parses_and_reaches_base_view_and_rights_only(
    schema: str, table: str, key: str, secret: str, mode: tuple[bool, bool]
) -> None:
    if key == secret:
        secret += "x"
    made = layout(schema, table, key, secret, *mode)
    rights = ("envelope_private", generate.rights_name(KEY))
    allowed = {(schema, made.base_name), (schema, made.view_name), ("envelope_private", "capability"), rights}
    allowed |= {(schema, generate.upsert_name(made.view_name)), (None, "v")}
    for statement in statements(made):
        assert len(pglast.parse_sql(statement)) == 1
        assert found_in(statement).relations <= allowed


@pytest.mark.parametrize("mode", [(False, False), (False, True), (True, True)])
@pytest.mark.parametrize("name", HOSTILE)
def test_functions_parse_as_plpgsql(name: str, mode: tuple[bool, bool]) -> None:
    made = layout("s", name, f"{name}k", f"{name}v", *mode)
    functions = [text for text in generate.functions(made) if "LANGUAGE plpgsql" in text]
    assert len(functions) == 6
    for function in functions:
        # The parser knows no row types.
        assert plpgsql_statements(function.replace(f"({made.base}) RETURNS", "(text) RETURNS"))


@given(names)
def test_no_line_of_a_literal_is_moved(text: str) -> None:
    """What is indented is the generated code, never a CHECK's literal or a name."""
    made = layout("s", "t", "k", "v")
    check = replace(made.checks[0], expression=f"v <> {literal(text)}", name=text)
    body = next(sql for sql in generate.functions(replace(made, checks=(check,))) if "INSERT INTO" in sql)
    assert f"v <> {literal(text)}" in body
    assert f"CONSTRAINT = {literal(text)}" in body


@pytest.mark.parametrize("mode", [(False, False), (False, True), (True, True)])
def test_the_right_to_read_comes_from_the_path_or_from_the_role(mode: tuple[bool, bool]) -> None:
    by_role, _ = mode
    made = layout("s", "t", "k", "v", *mode)
    view = found_in(generate.view(made))
    assert (("envelope_private", generate.rights_name(KEY)) in view.relations) is not by_role
    assert f"envelope_internal.decrypt_text{'_as_role' if by_role else ''}" in view.functions
    assert f"security_invoker = {str(by_role).lower()}" in generate.view(made)


@pytest.mark.parametrize("as_caller", [False, True])
def test_code_of_the_table_runs_as_its_caller_and_the_rest_pinned(as_caller: bool) -> None:
    made = layout("s", "t", "k", "v", as_caller=as_caller)
    functions = {event: definition(made, event) for event in ("insert", "update", "guard")}
    for event in ("insert", "update"):
        assert ("SECURITY INVOKER" in functions[event]) is as_caller
        assert ("SET search_path = pg_catalog, pg_temp" in functions[event]) is not as_caller
        assert ("envelope_internal.draft_text(" in functions[event]) is as_caller
        assert ("envelope_internal.encrypt_text(" in functions[event]) is not as_caller
    assert "SECURITY DEFINER SET search_path = pg_catalog, pg_temp" in functions["guard"]


def definition(made: Layout, what: str) -> str:
    start = f"CREATE OR REPLACE FUNCTION {made.function(what)}("
    return next(text for text in generate.functions(made) if text.startswith(start))


@pytest.mark.parametrize("mode", [(False, False), (False, True), (True, True)])
def test_what_runs_under_the_callers_path_qualifies_everything(mode: tuple[bool, bool]) -> None:
    """A caller may put functions, operators and types of their own before those of pg_catalog."""
    made = replace(layout("s", "t", "k", "v", *mode), checks=())
    for what in ("insert", "update", "clear", "version", "upsert"):
        for query in plpgsql_statements(definition(made, what).replace(f"({made.base}) RETURNS", "(text) RETURNS")):
            unqualified = Unqualified()
            with contextlib.suppress(pglast.parser.ParseError):
                unqualified(pglast.parse_sql(query if query.split()[0] in VERBS else f"SELECT {query}"))
            assert not unqualified.found, query


VERBS = ("INSERT", "UPDATE", "SELECT")


class Unqualified(Visitor):
    """Functions, operators and types that are looked up by search_path."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def visit_FuncCall(self, ancestors: object, node: ast.FuncCall) -> None:
        if len(node.funcname) < 2:
            self.found.append(node.funcname[-1].sval)

    def visit_A_Expr(self, ancestors: object, node: ast.A_Expr) -> None:
        distinct = (enums.A_Expr_Kind.AEXPR_DISTINCT, enums.A_Expr_Kind.AEXPR_NOT_DISTINCT)
        # IS [NOT] DISTINCT FROM NULL is a test for NULL, without an operator.
        if node.kind in distinct and isinstance(node.rexpr, ast.A_Const) and node.rexpr.isnull:
            return
        if len(node.name) < 2:
            self.found.append(node.name[-1].sval)

    def visit_TypeName(self, ancestors: object, node: ast.TypeName) -> None:
        if node.names and len(node.names) < 2:
            self.found.append(node.names[-1].sval)


def test_functions_are_nobodys_to_call() -> None:
    made = layout("s", "t", "k", "v")
    revoked = [text for text in generate.functions(made) if text.startswith("REVOKE")]
    assert len(revoked) == len(generate.function_names("t"))


def test_a_composite_row_key_has_the_length_of_each_part() -> None:
    made = layout("s", "t", "k", "v")
    two = Layout(**{**made.__dict__, "row_key": {"k": "=", "v": "="}})
    assert row_key(two, two.protected["v"], "t") == with_lengths(KEY_TEXT, 't."v"::pg_catalog.text')


KEY_TEXT = 'envelope_internal.canonical(t."k")'


def with_lengths(*texts: str) -> str:
    joined = " OPERATOR(pg_catalog.||) "
    return joined.join(f"pg_catalog.length({text})::pg_catalog.text{joined}':'{joined}{text}" for text in texts)


SCOPED = {"scope_column": "kv3"}
SCOPE = 't."kv3"::envelope.plaintext::pg_catalog.text'
ROW, COLUMN = FieldOptions(), FieldOptions(bind="column")


@pytest.mark.parametrize(
    ("changed", "options", "expected"),
    [
        (SCOPED, ROW, with_lengths(SCOPE, "{0}")),
        ({"scope_column": "k"}, ROW, "{0}"),
        (SCOPED, COLUMN, SCOPE),
        ({"scope_column": "k"}, COLUMN, "{0}"),
        ({}, COLUMN, "''"),
    ],
)
def test_the_row_key_begins_with_the_scope(changed: dict[str, object], options: FieldOptions, expected: str) -> None:
    made = layout("s", "t", "k", "v")
    scoped = Layout(**{**made.__dict__, **changed})
    protected = Protected(made.protected["v"].column, UUID, options)
    assert row_key(scoped, protected, "t") == expected.format(KEY_TEXT)


def test_without_primary_key_update_is_refused() -> None:
    made = replace(layout("s", "t", "k", "v"), row_key={}, inputs={})
    assert "it has no primary key" in definition(made, "update")
    assert generate.trigger_names(made) == {
        "envelope_insert",
        "envelope_soft",
        "envelope_update",
        "~envelope_guard_insert",
        "~envelope_guard_write",
    }
