"""The SQL that canonical.py writes for a value and its text, by type."""

from __future__ import annotations

import pytest

from pg_envelope.backend.tables.canonical import canonical, restored
from tests.unit.tables.test_generate import column


@pytest.mark.parametrize(
    ("type_name", "given", "expected"),
    [
        ("text", {}, 't."c"::pg_catalog.text'),
        ("xml", {}, 't."c"::pg_catalog.text'),
        ("int4", {}, 't."c"::envelope.plaintext::pg_catalog.text'),
        ("bool", {}, 't."c"::envelope.plaintext::pg_catalog.text'),
        ("s.mood", {"base_type": "", "kind": "e"}, 't."c"::envelope.plaintext::pg_catalog.text'),
        ("text[]", {"base_type": "_text", "element_type": "text"}, 't."c"::envelope.plaintext::pg_catalog.text'),
        ("xml[]", {"base_type": "_xml", "element_type": "xml"}, 'envelope_internal.canonical(t."c")'),
        ("timestamptz", {}, 'envelope_internal.canonical(t."c")'),
        ("s.pair", {"base_type": "", "kind": "c"}, 'envelope_internal.canonical(t."c")'),
    ],
)
def test_canonical_text_by_type(type_name: str, given: dict[str, object], expected: str) -> None:
    assert canonical(column(1, "c", type_name, **given), "t") == expected


@pytest.mark.parametrize(
    ("type_name", "given", "expected"),
    [
        ("text", {}, "X"),
        ("bytea", {}, "X"),
        ("text", {"collation": '"C"'}, '(X) COLLATE "C"'),
        ("character varying(3)", {"base_type": "varchar"}, "X::character varying(3)"),
        ("s.blob", {"base_type": "bytea"}, "X::s.blob"),
        ("xml", {}, "XMLPARSE(CONTENT X)::pg_catalog.xml"),
        ('"char"', {"base_type": "char"}, 'X::envelope.plaintext::pg_catalog."char"'),
        ("time(3) without time zone", {"base_type": "time"}, "X::envelope.plaintext::time(3) without time zone"),
        ("s.mood", {"base_type": "", "kind": "e"}, "X::envelope.plaintext::s.mood"),
        ("s.hstore", {"base_type": ""}, "X::envelope.plaintext::s.hstore"),
        (
            "s.pair",
            {"base_type": "", "kind": "c"},
            "envelope_internal.value_of(X::envelope.plaintext, NULL::s.pair[])::s.pair",
        ),
        (
            "integer[]",
            {"base_type": "_int4", "kind": "a"},
            "envelope_internal.array_of(X::envelope.plaintext, NULL::integer[])::integer[]",
        ),
    ],
)
def test_a_value_from_its_text_by_type(type_name: str, given: dict[str, object], expected: str) -> None:
    assert restored(column(1, "c", type_name, **given), "X") == expected
