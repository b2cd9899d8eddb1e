"""Where a protected table may differ from its plain twin; docs/protected-tables.md tells of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.integration.sql.machine.tables import Shape


@dataclass(frozen=True)
class Outcome:
    """What a statement gave: rows, count, or SQLSTATE."""

    rows: tuple[object, ...] = ()
    count: int = 0
    sqlstate: str = ""

    @property
    def violates(self) -> bool:
        return self.sqlstate.startswith("23")


@dataclass(frozen=True)
class Difference:
    """`docs` is a phrase that docs/protected-tables.md says of it."""

    docs: str
    applies: Callable[[Shape, str, Outcome, Outcome], bool]


def _other_constraint(shape: Shape, statement: str, plain: Outcome, sealed: Outcome) -> bool:
    return plain.violates and sealed.violates


def _at_each_row(shape: Shape, statement: str, plain: Outcome, sealed: Outcome) -> bool:
    several = statement.startswith(("INSERT", "UPDATE", "WITH"))
    return several and sealed.sqlstate in ("23503", "23505") and plain.sqlstate != sealed.sqlstate


def _changed_by_its_trigger(shape: Shape, statement: str, plain: Outcome, sealed: Outcome) -> bool:
    return "other" in shape.after and statement.startswith(("UPDATE", "INSERT", "WITH"))


def _nothing_tells_apart(shape: Shape, statement: str, plain: Outcome, sealed: Outcome) -> bool:
    return shape.key == "deferrable" and statement.startswith("SET CONSTRAINTS") and sealed.sqlstate == "21000"


def _before_a_row_policy(shape: Shape, statement: str, plain: Outcome, sealed: Outcome) -> bool:
    return shape.row_security and plain.sqlstate == "42501" and sealed.violates


def _as_its_trigger_left_it(shape: Shape, statement: str, plain: Outcome, sealed: Outcome) -> bool:
    inserted = "INSERT" in statement and "RETURNING" in statement and not (plain.sqlstate or sealed.sqlstate)
    return shape.row_security and "own" in shape.after and inserted


DIFFERENCES = (
    Difference("the error may name a different one of these constraints", _other_constraint),
    Difference("which of the two errors comes first", _before_a_row_policy),
    Difference("checked at each row", _at_each_row),
    Difference("an AFTER trigger that changes other rows", _changed_by_its_trigger),
    Difference("returns the row as the AFTER trigger has left it", _as_its_trigger_left_it),
    Difference("two rows have one key before the commit", _nothing_tells_apart),
)


def allowed(shape: Shape, statement: str, plain: Outcome, sealed: Outcome) -> bool:
    return any(difference.applies(shape, statement, plain, sealed) for difference in DIFFERENCES)
