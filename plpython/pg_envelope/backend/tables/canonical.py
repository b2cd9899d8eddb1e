"""A column's canonical text (FORMAT.md section 1.2), and a value from that text: the two SQL expressions for it."""

from __future__ import annotations

from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables.inspect import Column

# Their text never depends on a setting, so a plain cast gives the canonical text.
DIRECT_TYPES = frozenset(
    "text varchar name int2 int4 int8 numeric uuid json jsonb oid".split()  # noqa: SIM905
)
# Their text is the output function's, which a cast to text is not: it trims bpchar, and writes true for t.
OUTPUT_FUNCTIONS = {"bpchar": "bpcharout", "bool": "boolout"}


def canonical(column: Column, source: str) -> str:
    """The SQL expression for the canonical text of a column of `source` (t, OLD or NEW)."""
    value = f"{source}.{ident(column.name)}"
    output = OUTPUT_FUNCTIONS.get(column.base_type)
    if output:
        return f"pg_catalog.textin(pg_catalog.{output}({value}))"
    return f"{value}::text" if _has_direct_text(column) else f"envelope.canonical({value})"


def restored(column: Column, content: str) -> str:
    """The SQL expression that turns `content` (the expression of a decrypted text, or bytea) into the column's type.

    The value has the column's own collation.
    """
    typed = _typed(column, content)
    return f"({typed}) COLLATE {column.collation}" if column.collation else typed


def _typed(column: Column, content: str) -> str:
    if column.base_type == "xml":
        # A cast would follow the reader's setting of xmloption.
        content = f"XMLPARSE(CONTENT {content})"
    return content if column.type in ("text", "bytea", "xml") else f"{content}::{column.type}"


def _has_direct_text(column: Column) -> bool:
    return column.is_enum or column.base_type in DIRECT_TYPES or column.element_type in DIRECT_TYPES
