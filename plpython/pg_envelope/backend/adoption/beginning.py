"""Begins an adoption: the first step of a roll-out whose old column holds what other software encrypted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pg_envelope import errors
from pg_envelope.backend.adoption import telling
from pg_envelope.backend.adoption.reading import layout_of
from pg_envelope.backend.adoption.sampling import column_of, sample
from pg_envelope.backend.field_options import FieldOptions
from pg_envelope.backend.host import Host
from pg_envelope.backend.rollout.way import ASKS_FOR_VALUE, Way
from pg_envelope.backend.search.carried import Index
from pg_envelope.backend.sqltext import derived_name, ident
from pg_envelope.backend.tables.generate import ADOPT, Layout, Protected
from pg_envelope.backend.tables.inspect import Column, Table
from pg_envelope.foreign.apart import columns_beside
from pg_envelope.foreign.keys import LegacyKey
from pg_envelope.foreign.presets import reader_of
from pg_envelope.foreign.reader import ForeignReader, is_utf8
from pg_envelope.records import dataclass, replace

RECORD = """
INSERT INTO envelope_private.adoption (field_uuid, legacy_key, format, accepts_unauthenticated, beside)
VALUES ($1, $2, $3, $4, $5::name[])"""
SAMPLE = 1000
# Fewer values of the sample open with the wrong key or format.
LEAST_OPENED = 0.5
PLAIN_TYPES = ("text", "bytea")
OWN_TYPES = ("text", "character varying", "bytea")


@dataclass(frozen=True)
class Adopting(Way):
    """What adopt() was asked for. `type` is the type of the values in the clear; None keeps a text or varchar."""

    key_uuid: str
    key: LegacyKey
    form: str
    type: str | None
    accepts_unauthenticated: bool
    act: str = ADOPT
    suffix: str = "_legacy"
    tokens_first: bool = False
    done: str = "adopted"
    hint: str = "Change what is listed, then call it again. docs/adopt.md tells more."

    def check(self, host: Host, table: Table, wanted: Mapping[str, FieldOptions]) -> None:
        """Raises BadInput where the format or the key is not that of the values.

        Raises Unsupported where tokens would be as good as the values.
        """
        if self.type not in (None, *PLAIN_TYPES):
            raise errors.BadInput(f"type must be one of {', '.join(PLAIN_TYPES)}", hint="It is the type in the clear.")
        reader = reader_of(layout_of(self.form), self.key)
        self._check_authentication(reader)
        for name, options in wanted.items():
            contents = self._opened(host, table, column_of(table, name), reader)
            telling.refuse(name, options.search, contents)

    def beside(self, column: str) -> list[str]:
        return columns_beside(layout_of(self.form), column)

    def _check_authentication(self, reader: ForeignReader) -> None:
        if not reader.authenticates and not self.accepts_unauthenticated:
            raise errors.BadInput(
                "this format does not notice altered values",
                detail="An altered value reads as another text, and nobody can tell.",
                hint="If that is acceptable for the old values: accept_unauthenticated => true.",
            )

    def _opened(self, host: Host, table: Table, column: Column, reader: ForeignReader) -> list[bytes]:
        """Returns what those values of a sample hold that open. Raises BadInput if these are few."""
        values = sample(host, table, column, SAMPLE, self.beside(column.name))
        contents = [content for value in values if (content := reader.content(value)) is not None]
        opened, least = len(contents), LEAST_OPENED * len(values)
        if opened < least:
            raise errors.BadInput(
                f"the values of column {column.name} do not open with this format and key; nothing was changed",
                detail=f"{opened} of {len(values)} values of a sample open.",
                hint="SELECT * FROM envelope.inspect(..., key => ...) tells which formats open them.",
            )
        texts = opened if self.plain_of(column).is_bytes else sum(map(is_utf8, contents))
        if texts < least:
            raise errors.BadInput(
                f"the values of column {column.name} open, but they are no texts in UTF-8; nothing was changed",
                detail=f"{texts} of {len(values)} values of a sample are such texts.",
                hint="A specification tells their charset: docs/adopt.md. Or adopt them with type => 'bytea'.",
            )
        return contents

    def obstacles(self, table: Table, names: list[str], dependents: list[str]) -> Iterator[str]:
        """Yields what an adoption cannot carry over, and a roll-out could."""
        for check in table.checks:
            if check.columns & set(names):
                yield f"CHECK constraint {check.name} is about the form of the old values: drop it first"
        for name in sorted({part for column in names for part in self.beside(column)} & set(names)):
            yield f"column {name} holds parts of other values, and cannot be adopted with them"
        for name in names:
            column = column_of(table, name)
            if self.plain_of(column).type == column.type:
                continue
            if column.default is not None:
                yield f"column {name} has a default of another type than its values will have: drop it first"
            for dependent in dependents:
                yield f"{dependent} uses the table, and column {name} gets another type"

    def misfit(self, table: Table, index: Index) -> str | None:  # noqa: ARG002
        if index.asks_for_value:
            return ASKS_FOR_VALUE
        if index.nulls_equal:
            return "takes NULLs for equal, and a value that does not open has no token"
        return "is of lower() of the old values" if any(part.normalize for part in index.parts) else None

    def clear(self, table: Table, names: Iterable[str]) -> Table:
        wanted = set(names)
        columns = (self.plain_of(column) if column.name in wanted else column for column in table.columns)
        return replace(table, columns=tuple(columns))

    def typed(self, layout: Layout) -> Layout:
        """Gives the columns the types that their values have in the clear."""
        plain = {name: self.plain_of(found.column) for name, found in layout.protected.items()}
        columns = tuple(plain.get(column.name, column) for column in layout.columns)
        protected = {
            name: replace(found, column=plain[name], beside=tuple(self.beside(name)))
            for name, found in layout.protected.items()
        }
        return replace(layout, columns=columns, protected=protected)

    def keeps_types(self, layout: Layout) -> bool:
        return all(found.column.type == layout.column(found.plain or "").type for found in layout.protected.values())

    def plain_of(self, column: Column) -> Column:
        # The CHECK of a domain is about the form of the old values.
        is_domain = column.type.split("(")[0] not in OWN_TYPES
        kept = column.base_type if column.base_type in ("text", "varchar") and not is_domain else None
        wanted = self.type or kept or "text"
        if wanted == column.base_type and not is_domain:
            return column
        collation = None if wanted == "bytea" else '"default"'
        stored = replace(column, collation=collation, storage="x", default=None, compression="")
        return replace(stored, type=wanted, base_type=wanted, element_type="", kind="b")

    def constraints(self, layout: Layout) -> list[str]:
        """A value is in one of the two columns. PostgreSQL knows NOT NULL of one column only."""
        return [_kept(found) for found in layout.protected.values() if found.column.not_null]

    def record(self, host: Host, layout: Layout) -> None:
        for found in layout.protected.values():
            told = [found.field_uuid, self.key_uuid, self.form, self.accepts_unauthenticated]
            host.rows(RECORD, ["uuid", "uuid", "text", "bool", "text[]"], [*told, list(found.beside)])


def kept_name(column: str) -> str:
    return derived_name(column, "_is_kept")


def _kept(protected: Protected) -> str:
    name, plain = ident(protected.column.name), ident(protected.plain or "")
    condition = f"{name} IS NOT NULL OR {plain} IS NOT NULL"
    return f"ADD CONSTRAINT {ident(kept_name(protected.column.name))} CHECK ({condition}) NOT VALID"
