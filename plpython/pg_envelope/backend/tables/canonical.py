"""Writes the two SQL expressions for a column's canonical text (FORMAT.md section 1.2), and for a value from that
text.

Neither uses a cast that a user has made. Both go by way of envelope.plaintext, to which the only casts are the value's
own output and input function.
"""

from __future__ import annotations

from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables.inspect import Column

TEXT = "pg_catalog.text"
PLAINTEXT = "envelope.plaintext"
# xml is kept as text, byte for byte, because its output function would drop the declaration.
RELABELLED = frozenset(("text", "varchar", "xml"))
# Neither the output nor the input of these types depends on any setting.
STEADY = frozenset(
    "name bpchar char bool int2 int4 int8 numeric oid xid xid8 cid tid uuid json jsonb jsonpath bit varbit inet cidr"  # noqa: SIM905
    " macaddr macaddr8 pg_lsn pg_snapshot txid_snapshot tsvector tsquery int4range int8range numrange int4multirange"
    " int8multirange nummultirange int2vector oidvector".split()
)
# Two values of these types are equal only when their texts are.
ONE_TEXT = frozenset(
    "text varchar name char bool int2 int4 int8 oid xid xid8 uuid bytea date time timestamp timestamptz macaddr"  # noqa: SIM905
    " macaddr8 inet cidr pg_lsn bit varbit".split()
)
SHORTENED = frozenset(("varchar", "bpchar", "bit", "varbit"))
ENUM, BASE = "e", "b"
# These are words of the grammar. They stand for pg_catalog's types whatever the search_path is.
GRAMMAR = frozenset(
    "bit boolean character double integer smallint bigint numeric real interval time timestamp".split()  # noqa: SIM905
)


def canonical(column: Column, source: str) -> str:
    """The SQL expression for the canonical text of a column of `source` (t, OLD or NEW)."""
    value = f"{source}.{ident(column.name)}"
    if column.base_type in RELABELLED:
        return f"{value}::{TEXT}"
    return f"{value}::{PLAINTEXT}::{TEXT}" if _is_steady(column) else f"envelope_internal.canonical({value})"


def restored(column: Column, content: str) -> str:
    """The SQL expression that turns `content` (the expression of a decrypted text, or bytea) into the column's type.

    The value has the column's own collation.
    """
    return _collated(column, _typed(column, content))


def written(column: Column, given: str) -> str:
    """The SQL expression for the value that a person means by `given` (the expression of a text), as in an INSERT."""
    return _collated(column, f"{given}::{PLAINTEXT}::{_qualified(column.type)}")


def fits(column: Column, given: str) -> str:
    """The SQL expression that is true when `written` loses nothing: an explicit cast shortens where INSERT refuses."""
    if column.base_type not in SHORTENED:
        return "true"
    whole = f'pg_catalog."{column.base_type}"'
    kept = f"{given}::{PLAINTEXT}::{_qualified(column.type)}::{whole}"
    return f"{given}::{PLAINTEXT}::{whole} OPERATOR(pg_catalog.=) {kept}"


def has_one_text(column: Column) -> bool:
    """Tells whether equal values have equal texts. For texts this needs a deterministic collation."""
    return column.kind == ENUM or column.base_type in ONE_TEXT


def may_lose(column: Column) -> bool:
    """Tells whether the type's own text may be less than the value. Nobody knows that of a base type from outside
    PostgreSQL.

    A timestamp with a precision is rounded after its range was checked, and may then be no timestamp any more.
    """
    foreign = not column.base_type and column.kind == BASE
    return foreign or (column.base_type in ("timestamp", "timestamptz") and "(" in column.type)


def _collated(column: Column, typed: str) -> str:
    return f"({typed}) COLLATE {column.collation}" if column.collation else typed


def _typed(column: Column, content: str) -> str:
    type_name = _qualified(column.type)
    if column.type in ("text", "bytea"):
        return content
    if column.base_type == "xml":
        # The input function would follow the reader's setting of xmloption.
        return f"XMLPARSE(CONTENT {content})::{type_name}"
    if column.is_bytes or column.base_type in RELABELLED:
        return f"{content}::{type_name}"
    return f"{_read(column, f'{content}::{PLAINTEXT}', type_name)}::{type_name}"


def _read(column: Column, content: str, type_name: str) -> str:
    """Reads arrays, and types that may have one inside, by a function, because their input depends on array_nulls."""
    if column.base_type in STEADY:
        return content
    if column.is_array:
        return f"envelope_internal.array_of({content}, NULL::{type_name})"
    if column.base_type or column.kind in (ENUM, BASE):
        return content
    return f"envelope_internal.value_of({content}, NULL::{type_name}[])"


def _is_steady(column: Column) -> bool:
    return column.kind == ENUM or column.base_type in STEADY or column.element_type in STEADY | RELABELLED - {"xml"}


def _qualified(type_name: str) -> str:
    """Qualifies a type's name. format_type leaves the schema out for pg_catalog's types, under the search_path of its
    caller.
    """
    word = type_name.replace("(", " ").replace("[", " ").split(" ")[0]
    return type_name if "." in type_name or word in GRAMMAR else f"pg_catalog.{type_name}"
