"""Describes a protected table as it shall look. All generated SQL is made from this description."""

from __future__ import annotations

from pg_envelope.backend.field_options import FieldOptions
from pg_envelope.backend.search.column import SearchColumn
from pg_envelope.backend.sqltext import derived_name, qualified
from pg_envelope.backend.tables.inspect import Check, Column
from pg_envelope.records import dataclass, field, replace

RIGHTS_SCHEMA = "envelope_private"
# So many capabilities fit into one row, because a row must fit into a page of 8 kB.
MOST_RIGHTS = 400
# The act of a roll-out whose old values are foreign ciphertext: docs/adopt.md.
ADOPT = "adopt"
# Seals in one row, likewise: sql/44_seals.sql.
MOST_SEALS = 300


@dataclass(frozen=True)
class Protected:
    """A protected column: its values in the clear, and the field that encrypts them.

    `careful`: some of its envelopes give no value, and the view must not stop at them in an UPDATE that replaces them.
    `is_masked`: rules decide what a role sees.
    `plain` is the base table's column that has the values in the clear during a roll-out. Afterwards it stays empty,
    and keeps the column's place among the others. An offline protect() makes none.
    `in_rollout`: the roll-out that is under way changes the form of its values.
    `beside` names the columns that hold parts of the old values, such as their IVs, while the column is being adopted.
    """

    column: Column
    field_uuid: str
    options: FieldOptions
    careful: bool = False
    plain: str | None = None
    is_masked: bool = False
    in_rollout: bool = False
    beside: tuple[str, ...] = ()

    @property
    def is_audited(self) -> bool:
        return self.options.audit != "none"


@dataclass(frozen=True)
class Layout:
    """A base table and the view over it, as they shall be.

    `row_key` maps columns to their equality operators. `scope_column` holds the tenant or subject, if they have keys.
    `columns` are those that the view shows, in its order. `hidden` are columns of tokens that are not filled yet.
    `searches` has the search columns by their names, with the hidden ones.

    `as_caller`: a write runs code of the table (triggers, functions in constraints and indexes), which needs the
    caller's role and settings, as on a plain table. `by_role`: the table has row-level security, so reads run as the
    caller, too. `key_is_deferrable`: two rows may have one key for a while.

    `inputs` has the base table's columns through which the upsert relation takes values, by their protected columns.

    `rollout` is the act that is under way, `protect` or `unprotect`: each value of its columns is in the clear in one
    of `clear_columns`, or it is an envelope. During `tokens` every value is in the clear. During `adopt` these columns
    hold what other software encrypted.
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
    key_is_deferrable: bool = False
    searches: dict[str, SearchColumn] = field(default_factory=dict)
    hidden: tuple[Column, ...] = ()
    rollout: str | None = None
    clear_columns: tuple[Column, ...] = ()
    inputs: dict[str, str] = field(default_factory=dict)

    @property
    def view_columns(self) -> list[Column]:
        """The columns with the types that the view gives them: a search column has its key's type."""
        types = {name: search.type for name, search in self.searches.items()}
        return [replace(column, type=types.get(column.name, column.type)) for column in self.columns]

    @property
    def view(self) -> str:
        return qualified(self.schema, self.view_name)

    @property
    def base(self) -> str:
        return qualified(self.schema, self.base_name)

    @property
    def rights(self) -> dict[str, list[Protected]]:
        """The relations that hand this table's capabilities to its view, each with its columns."""
        fields = list(self.protected.values())
        pages = [fields[start : start + MOST_RIGHTS] for start in range(0, len(fields), MOST_RIGHTS)]
        names = (rights_name(self.key_uuid, page) for page in range(len(pages)))
        return {qualified(RIGHTS_SCHEMA, name): page for name, page in zip(names, pages, strict=True)}

    def right(self, wanted: Protected) -> str:
        """Returns the relation that hands over a column's capability."""
        page = [protected.field_uuid for protected in self.protected.values()].index(wanted.field_uuid) // MOST_RIGHTS
        return qualified(RIGHTS_SCHEMA, rights_name(self.key_uuid, page))

    @property
    def has_drafts(self) -> bool:
        """Tells whether values come to the guard as drafts."""
        return self.as_caller or bool(self.inputs)

    @property
    def seals(self) -> str | None:
        """The table whose one row has the seals of all columns; None where they are too many for one row."""
        return qualified(RIGHTS_SCHEMA, seals_name(self.key_uuid)) if len(self.protected) <= MOST_SEALS else None

    @property
    def plain_columns(self) -> list[Column]:
        """The columns that are stored as they are written. Nobody writes search columns."""
        made = self.protected.keys() | self.searches.keys()
        return [column for column in self.columns if column.name not in made]

    @property
    def plains(self) -> dict[str, str]:
        """The protected columns by the columns of the base table that have, or had, their values in the clear."""
        return {found.plain: name for name, found in self.protected.items() if found.plain}

    @property
    def sources(self) -> dict[str, str]:
        """The same for the columns of a roll-out that is under way."""
        return {found.plain: name for name, found in self.in_rollout.items() if found.plain}

    @property
    def in_rollout(self) -> dict[str, Protected]:
        """The protected columns whose values change their form in the roll-out that is under way."""
        return {name: found for name, found in self.protected.items() if found.in_rollout}

    @property
    def staying(self) -> set[str]:
        """The protected columns that such a roll-out leaves as they are."""
        return self.protected.keys() - self.in_rollout.keys()

    def at_rest(self) -> Layout:
        """Returns the same with no column in a roll-out: every value is an envelope, or all are in the clear."""
        return replace(
            self, protected={name: replace(found, in_rollout=False) for name, found in self.protected.items()}
        )

    def of_rollout(self) -> Layout:
        """Returns the same with no protected columns but those of the roll-out, and with their search columns."""
        searches = {name: search for name, search in self.searches.items() if search.source in self.in_rollout}
        return replace(self, protected=self.in_rollout, searches=searches)

    @property
    def adopts(self) -> bool:
        """Tells whether old values are what other software encrypted. New ones are envelopes at once."""
        return self.rollout == ADOPT

    @property
    def writes_clear(self) -> bool:
        """Tells whether a write through the view hands values in the clear to the base table, for its guard."""
        return self.rollout is not None and not self.adopts

    @property
    def shown_searches(self) -> list[SearchColumn]:
        return [search for search in self.searches.values() if search.is_filled]

    def searches_of(self, source: str) -> list[SearchColumn]:
        """Returns the search columns that find a protected column."""
        return [search for search in self.shown_searches if search.source == source]

    @property
    def stored_columns(self) -> tuple[Column, ...]:
        return self.columns + self.hidden + self.clear_columns

    @property
    def written_columns(self) -> list[Column]:
        return [column for column in self.stored_columns if not column.generated]

    def function(self, what: str) -> str:
        return qualified(self.schema, function_name(self.view_name, what))

    def column(self, name: str) -> Column:
        return next(column for column in self.stored_columns if column.name == name)


def rights_name(key_uuid: str, page: int = 0) -> str:
    return f"right_{key_uuid.replace('-', '')}" + (f"_{page}" if page else "")


def upsert_name(view_name: str) -> str:
    return derived_name(view_name, "_upsert")


def input_name(column: str) -> str:
    return derived_name(column, "_input")


def seals_name(key_uuid: str) -> str:
    return f"seal_{key_uuid.replace('-', '')}"


def function_name(view_name: str, what: str) -> str:
    return derived_name(view_name, f"_envelope_{what}")
