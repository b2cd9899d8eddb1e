"""What differs between roll-outs: protect() has values in the clear before, and adopt() those of other software."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pg_envelope.backend.field_options import FieldOptions
from pg_envelope.backend.host import Host
from pg_envelope.backend.rollout import proofs
from pg_envelope.backend.search.carried import Index
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.inspect import Table

ASKS_FOR_VALUE = "has a condition on a column that is to be protected, which is NULL as long as the old value is there"

NEEDS_TIME = "is a constraint of a partitioned table, for which PostgreSQL takes no index that is there already"


class Way:
    """The way of protect(), from which others differ.

    `suffix` is that of the columns which hold the old values. A table that is refused cannot be `done`; `hint` says
    what to do instead. `tokens_first`: each row gets its search tokens in a step of its own, while the table is in use.
    Otherwise the first transaction makes them.
    """

    act: str = proofs.PROTECT
    suffix: str = "_plain"
    tokens_first: bool = True
    done: str = "protected online"
    hint: str = "Leave out online => true: the table is locked then while it is rewritten."

    def check(self, host: Host, table: Table, wanted: Mapping[str, FieldOptions]) -> None:
        """Raises BadInput or Unsupported where the values are not what they should be."""

    def obstacles(self, table: Table, names: list[str], dependents: list[str]) -> Iterator[str]:  # noqa: ARG002
        """Yields what this roll-out cannot carry over, beside what none can."""
        return iter(())

    def misfit(self, table: Table, index: Index) -> str | None:
        """Returns why tokens cannot stand in for an index of the old values; None if they can."""
        if index.asks_for_value:
            return ASKS_FOR_VALUE
        if index.is_constraint and table.kind == "p":
            return NEEDS_TIME
        return "takes NULLs for equal, and the old column of each value is emptied" if index.nulls_equal else None

    def clear(self, table: Table, names: Iterable[str]) -> Table:  # noqa: ARG002
        """Returns the table with the types that the values of its columns have in the clear."""
        return table

    def typed(self, layout: Layout) -> Layout:
        """Returns the layout with the types that the values have in the clear."""
        return layout

    def keeps_types(self, layout: Layout) -> bool:  # noqa: ARG002
        return True

    def constraints(self, layout: Layout) -> list[str]:
        """Returns parts of an ALTER TABLE: what holds for rows that are written from now on."""
        return proofs.add(layout, proofs.PROTECT)

    def record(self, host: Host, layout: Layout) -> None:
        """Records what the catalog of protected columns does not hold."""
