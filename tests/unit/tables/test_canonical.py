"""The SQL that canonical.py writes for a value and its text, by type."""

from __future__ import annotations

import pytest

from pg_envelope.backend.tables.canonical import canonical
from tests.unit.tables.test_generate import column


@pytest.mark.parametrize(
    ("type_name", "expected"),
    [
        ("text", 't."c"::text'),
        ("int4", 't."c"::text'),
        ("bool", 'pg_catalog.textin(pg_catalog.boolout(t."c"))'),
        ("bpchar", 'pg_catalog.textin(pg_catalog.bpcharout(t."c"))'),
        ("timestamptz", 'envelope.canonical(t."c")'),
        ("", 'envelope.canonical(t."c")'),
    ],
)
def test_canonical_text_by_type(type_name: str, expected: str) -> None:
    assert canonical(column(1, "c", type_name), "t") == expected
