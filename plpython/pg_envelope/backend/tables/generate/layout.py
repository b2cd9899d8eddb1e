"""What a protected table shall look like: all that the generated SQL is made from."""

from __future__ import annotations

from dataclasses import dataclass

from pg_envelope.backend.keys import FieldOptions
from pg_envelope.backend.sqltext import derived_name, qualified
from pg_envelope.backend.tables.inspect import Check, Column

RIGHTS_SCHEMA = "envelope_private"


@dataclass(frozen=True)
class Protected:
    """A protected column: what it holds in the clear, and the field that encrypts it."""

    column: Column
    field_uuid: str
    options: FieldOptions


@dataclass(frozen=True)
class Layout:
    """A base table and the view over it, as they shall be.

    `row_key` maps columns to their equality operators; `scope_column` holds the tenant or subject, if they have keys.
    `as_caller`: a write runs code of the table (triggers, functions in constraints and indexes), which needs the
    caller's role and settings, as on a plain table. `by_role`: row-level security, so reads run as the caller, too.
    """

    key_uuid: str
    schema: str
    view_name: str
    base_name: str
    columns: tuple[Column, ...]
    protected: dict[str, Protected]
    row_key: dict[str, str]
    checks: tuple[Check, ...]
    by_role: bool
    as_caller: bool = False
    scope_column: str | None = None
    erased: str = "error"
    view_options: tuple[str, ...] = ()

    @property
    def view(self) -> str:
        return qualified(self.schema, self.view_name)

    @property
    def base(self) -> str:
        return qualified(self.schema, self.base_name)

    @property
    def rights(self) -> str:
        """The relation that hands this table's capabilities to its view."""
        return qualified(RIGHTS_SCHEMA, rights_name(self.key_uuid))

    @property
    def plain_columns(self) -> list[Column]:
        return [column for column in self.columns if column.name not in self.protected]

    @property
    def written_columns(self) -> list[Column]:
        return [column for column in self.columns if not column.generated]

    def function(self, what: str) -> str:
        return qualified(self.schema, function_name(self.view_name, what))

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)


def rights_name(key_uuid: str) -> str:
    return f"right_{key_uuid.replace('-', '')}"


def function_name(view_name: str, what: str) -> str:
    return derived_name(view_name, f"_envelope_{what}")
