"""What generate.py writes parses, names only what it should, and cannot be broken out of by a hostile name."""

from __future__ import annotations

import json

import pglast
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pglast import ast
from pglast.visitors import Visitor

from pg_envelope.backend.keys import FieldOptions
from pg_envelope.backend.sqltext import NAME_BYTES, derived_name, ident
from pg_envelope.backend.tables import generate
from pg_envelope.backend.tables.generate import Layout, Protected
from pg_envelope.backend.tables.inspect import Check, Column

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


def layout(schema: str, table: str, key: str, secret: str, by_role: bool = False) -> Layout:
    protected = column(2, secret, not_null=True, collation='"C"')
    check = Check(
        name=table,
        expression=f"{ident(secret)} > ''",
        validated=True,
        no_inherit=False,
        comment=None,
        columns=frozenset({2}),
    )
    return Layout(
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


@given(names, names, names, names, st.booleans())
def test_everything_parses_and_reaches_base_view_and_capabilities_only(
    schema: str, table: str, key: str, secret: str, by_role: bool
) -> None:
    if key == secret:
        secret += "x"
    made = layout(schema, table, key, secret, by_role)
    allowed = {(schema, made.base_name), (schema, made.view_name), ("envelope_private", "capability")}
    statements = [generate.view(made), *generate.triggers(made)]
    for statement in statements:
        assert len(pglast.parse_sql(statement)) == 1
        assert found_in(statement).relations <= allowed


@pytest.mark.parametrize("name", HOSTILE)
def test_trigger_bodies_parse_as_plpgsql(name: str) -> None:
    made = layout("s", name, f"{name}k", f"{name}v")
    functions = [text for text in generate.triggers(made) if text.startswith("CREATE OR REPLACE FUNCTION")]
    assert len(functions) == 3
    for function in functions:
        assert plpgsql_statements(function)


@pytest.mark.parametrize("by_role", [False, True])
def test_the_right_comes_from_the_path_or_from_the_role(by_role: bool) -> None:
    made = layout("s", "t", "k", "v", by_role)
    view = found_in(generate.view(made))
    assert ("envelope_private", "capability") in view.relations or by_role
    suffix = "_as_role" if by_role else ""
    assert view.functions == {f"envelope.decrypt_text{suffix}", "envelope.canonical"}
    assert f"security_invoker = {str(by_role).lower()}" in generate.view(made)
    expected = "SECURITY INVOKER" if by_role else "SECURITY DEFINER"
    for function in generate.triggers(made)[::3]:
        assert expected in function
        assert "SET search_path = pg_catalog, pg_temp" in function


def test_trigger_functions_are_nobodys_to_call() -> None:
    made = layout("s", "t", "k", "v")
    assert [text for text in generate.triggers(made) if text.startswith("REVOKE")] == [
        f'REVOKE ALL ON FUNCTION "s"."t_envelope_{event}"() FROM PUBLIC' for event in generate.EVENTS
    ]


def test_a_composite_row_key_has_the_length_of_each_part() -> None:
    made = layout("s", "t", "k", "v")
    two = Layout(**{**made.__dict__, "row_key": {"k": "=", "v": "="}})
    assert generate.row_key(two, two.protected["v"], "t") == (
        'length(envelope.canonical(t."k"))::text || \':\' || envelope.canonical(t."k")'
        ' || length(t."v"::pg_catalog.text)::text || \':\' || t."v"::pg_catalog.text'
    )


SCOPED = {"scope_column": "kv3"}
SCOPE = 't."kv3"::envelope.plaintext::pg_catalog.text'
ROW, COLUMN = FieldOptions(), FieldOptions(bind="column")


@pytest.mark.parametrize(
    ("changed", "options", "expected"),
    [
        (SCOPED, ROW, f"length({SCOPE})::text || ':' || {SCOPE} || length({{0}})::text || ':' || {{0}}"),
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
    assert generate.row_key(scoped, protected, "t") == expected.format('envelope.canonical(t."k")')


def test_without_primary_key_only_insert_works() -> None:
    made = Layout(**{**layout("s", "t", "k", "v").__dict__, "row_key": {}})
    update, delete = generate.triggers(made)[3], generate.triggers(made)[6]
    assert "it has no primary key" in update
    assert "it has no primary key" in delete
