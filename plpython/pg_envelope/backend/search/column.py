"""Describes search columns, and which values they take for equal."""

from __future__ import annotations

from pg_envelope.backend.host import Host
from pg_envelope.backend.sqltext import derived_name, ident, qualified
from pg_envelope.backend.tables.canonical import PLAINTEXT, TEXT
from pg_envelope.backend.tables.inspect import Column
from pg_envelope.normalizers import KEPT, is_in_parts, kind_of
from pg_envelope.records import dataclass

SCHEMA = "envelope_search"
# Every role may use this one: its operators take two search columns, and nothing else.
COMPARE = "envelope_compare"
# Ends the name of the column by which foreign keys compare tokens.
REFERENCE = "_reference"
TOKEN = f"{SCHEMA}.token"
GRAMS = f"{SCHEMA}.grams"
# The types in which base tables hold what searches compare.
STORED = frozenset((TOKEN, GRAMS))
TEXTS = frozenset(("text", "varchar", "bpchar"))
# These types have no equality of their own: PostgreSQL compares them as texts.
COMPARED_AS = {"text": "text", "varchar": "text", "cidr": "inet"}
FLOATS = frozenset(("float4", "float8"))
# Equal values of these types have one text, which no setting changes.
STEADY = frozenset("bool int2 int4 int8 oid uuid inet macaddr macaddr8".split())  # noqa: SIM905
# PL/Python hands over this text.
LISTED = STEADY - {"bool"} | {"text"}
# Equal values of these types have one text under the settings of envelope_internal.canonical().
DATED = frozenset(("date", "time", "timestamp", "timestamptz"))
# The types whose ranges can be found, and the type of such a range.
RANGES = {
    "date": "daterange",
    "timestamp": "tsrange",
    "timestamptz": "tstzrange",
    "int2": "int4range",
    "int4": "int4range",
    "int8": "int8range",
    "numeric": "numrange",
    "float8": "numrange",
}
ENUM = "e"
# `one` is there because a row without columns would be an empty dict, which is false.
LOOSE = """
SELECT 1 AS one FROM pg_catalog.pg_collation WHERE oid = $1::regcollation AND NOT collisdeterministic"""


@dataclass(frozen=True)
class SearchColumn:
    """A column of tokens beside a protected column, `source`.

    `type_name` is the type of the search key in schema envelope_search, `search_uuid` the key's field; `normalizer` is
    the normaliser's name and version; `plain_type` is the type whose equality counts. One that is not `is_filled` lacks
    tokens of older rows, and the view does not show it; it may be there to take the place of the one it `replaces`.
    """

    name: str
    source: str
    search_uuid: str
    type_name: str
    normalizer: str
    plain_type: str
    is_filled: bool = True
    is_unique: bool = False
    replaces: str | None = None

    @property
    def is_match(self) -> bool:
        """True when it finds values by parts of them, and not by equal tokens: texts, or jsonb."""
        return is_in_parts(self.normalizer)

    @property
    def is_range(self) -> bool:
        """True when it finds values by the buckets that a range covers."""
        return kind_of(self.normalizer) == "range"

    @property
    def has_grams(self) -> bool:
        """True when a row has several numbers in the place of one token."""
        return self.is_match or self.is_range

    @property
    def stored(self) -> str:
        """The type of the base table's column."""
        return GRAMS if self.has_grams else TOKEN

    @property
    def opclass(self) -> str:
        """The operator class of its index."""
        return self.part("gin_ops" if self.has_grams else "ops")

    @property
    def type(self) -> str:
        return qualified(SCHEMA, self.type_name)

    @property
    def reference(self) -> str:
        """The name of the column by which foreign keys compare its tokens, if there is one."""
        return derived_name(self.name, REFERENCE)

    def part(self, what: str) -> str:
        """Returns the name of an object that is made for the type."""
        return qualified(SCHEMA, f"{self.type_name}_{what}")

    @property
    def is_enum(self) -> bool:
        """True when a user made the type of the column's values, so that its name needs a schema."""
        return "." in self.plain_type

    @property
    def is_text(self) -> bool:
        return self.plain_type in (*TEXTS, "citext")


def plain_type(column: Column) -> str | None:
    """Returns the type whose equality counts: `text` for texts that compare byte by byte, None for an unknown type."""
    if column.base_type in COMPARED_AS:
        return COMPARED_AS[column.base_type]
    if column.base_type in TEXTS | FLOATS | STEADY | DATED | {"numeric", "bytea", "jsonb"}:
        return column.base_type
    if not column.base_type and column.kind == "b" and column.type.split(".")[-1] == "citext":
        return "citext"
    return column.type if column.kind == ENUM else None


def searchable(host: Host, column: Column) -> bool:
    """Tells whether a column can have a search column of some kind."""
    return plain_type(column) is not None and not is_loose(host, column)


def has_equality(host: Host, column: Column) -> bool:
    """Tells whether equal values of a column have equal tokens."""
    return searchable(host, column) and plain_type(column) != "jsonb"


def is_loose(host: Host, column: Column) -> bool:
    """Tells whether the column's collation takes values for equal that differ in bytes."""
    return column.collation is not None and bool(host.rows(LOOSE, ["text"], [column.collation]))


def equal_text(kind: str, value: str) -> str:
    """Returns the SQL expression for a text that all equal values of a type share, and no others."""
    if kind in TEXTS:
        # The text of a char(n) ends before its blanks, which do not count there.
        return f"({value})::{TEXT}"
    if kind == "citext":
        return f'pg_catalog.lower(({value})::{TEXT} COLLATE pg_catalog."default")'
    if kind == "numeric":
        return f"pg_catalog.trim_scale({value})::{PLAINTEXT}::{TEXT}"
    if kind == "bytea":
        return f"pg_catalog.encode({value}, 'hex')"
    if kind in FLOATS:
        # The type has two zeros, with two texts.
        return f"envelope_internal.canonical(CASE WHEN {value} OPERATOR(pg_catalog.=) 0 THEN 0 ELSE {value} END)"
    if kind in DATED:
        return f"envelope_internal.canonical({value})"
    if kind == "inet":
        # The text of a cidr of one address would show its mask.
        return f"({value})::pg_catalog.inet::{PLAINTEXT}::{TEXT}"
    return f"({value})::{PLAINTEXT}::{TEXT}"


def of_function(normalizer: str, text: str) -> str:
    """Returns what a user's function makes of a text before the package's own normaliser sees it, if there is one."""
    if not normalizer.startswith(KEPT):
        return text
    return f'{qualified(COMPARE, normalizer.split("/")[0])}(({text}) COLLATE pg_catalog."default")'


def written_text(column: Column, value: str) -> str:
    """Returns `equal_text` of a column's value."""
    kind = plain_type(column)
    assert kind is not None
    return equal_text(kind, value)


def default_name(column: str, kind: str = "search") -> str:
    return f"{column}_{kind}"


def quoted_type(kind: str) -> str:
    """Returns the type of a typed operator, as SQL takes it."""
    return kind if "." in kind or kind == "citext" else f"pg_catalog.{ident(kind)}"
