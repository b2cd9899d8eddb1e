"""What DDL must leave as it is, or values could not be read again, and an UPDATE would not find its row."""

from __future__ import annotations

from collections.abc import Iterator

from pg_envelope import errors
from pg_envelope.backend.faults import DOES_NOT_OPEN
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.jobs import faulty
from pg_envelope.backend.sqltext import commas, ident
from pg_envelope.backend.tables import inspect, refusals, unfit
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.inspect import Table
from pg_envelope.backend.tables.owner import AsOwner

# Of the values of a column, so many are tried.
FIRST = 3
WAY_OUT = "CALL envelope.unprotect(...) first, and protect the table again afterwards."
# The types of protected columns, row keys and scope columns, with all that they are made of: each label of an enum, the
# attributes of a composite type, each constraint of a domain.
FORMS = f"""
WITH RECURSIVE part (view, type) AS (
    SELECT a.attrelid, a.atttypid FROM envelope_private.protected_table t
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.view AND a.attnum > 0
    WHERE a.attname = ANY (t.row_key) OR a.attname = t.scope_column OR EXISTS (
        SELECT FROM envelope_private.protected_column c WHERE c.view = t.view AND c.attname = a.attname)
    UNION
    SELECT part.view, inner_type FROM part {unfit.INNER_TYPES}),
shaped AS (
    SELECT part.view, c.oid,
        string_agg(concat_ws(' ', a.attnum, a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum) AS form
    FROM part JOIN pg_catalog.pg_class c ON c.reltype = part.type
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped GROUP BY 1, 2)
SELECT part.view, 'label' AS kind, e.oid AS item, e.enumlabel::text AS form
FROM part JOIN pg_catalog.pg_enum e ON e.enumtypid = part.type
UNION ALL SELECT view, 'attributes', oid, form FROM shaped
UNION ALL SELECT part.view, 'constraint', c.oid, '' FROM part JOIN pg_catalog.pg_constraint c ON c.contypid = part.type
UNION ALL SELECT part.view, 'not null', t.oid, ''
FROM part JOIN pg_catalog.pg_type t ON t.oid = part.type AND t.typnotnull"""
# What values are asked for when they are read; the rest is part of their texts.
ASKED = ("constraint", "not null")

Forms = dict[tuple[int, str, int], str]


def check(host: Host, layout: Layout, base: Table) -> None:
    """Raises Unsupported for a base table that has become what protect() would have refused."""
    reasons = list(_reasons(host, layout, base))
    if reasons:
        raise errors.Unsupported(f"{layout.view} is protected: {reasons[0]}", hint=WAY_OUT)


def _reasons(host: Host, layout: Layout, base: Table) -> Iterator[str]:
    if set(layout.row_key) != set(base.primary_key):
        yield "its values are bound to the columns of its primary key, which must stay the same"
    for row in host.rows(refusals.LATE_TRIGGERS, ["oid"], [base.oid]):
        yield f"trigger {row['name']} would run after the guard of {base.sql}: give it a name that sorts earlier"
    if base.inherits:
        yield f"{base.sql} cannot be part of an inheritance tree"


class Types:
    """The types of protected values before and after a command that changes types."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._before: Forms = {}

    def begin(self) -> None:
        self._before = self._forms()

    def end(self) -> None:
        """Raises Unsupported when texts would not read back; the domain's own error when a value does not pass it."""
        before, after = self._before, self._forms()
        for place, form in before.items():
            if place[1] not in ASKED and after.get(place, form) != form:
                raise errors.Unsupported(
                    f"{self._name(place[0])} is protected: its values would not read back after this change",
                    hint=WAY_OUT,
                )
        for view in {place[0] for place in after.keys() - before.keys() if place[1] in ASKED}:
            self._read(view)

    def _forms(self) -> Forms:
        return {(row["view"], row["kind"], row["item"]): row["form"] for row in self._host.rows(FORMS)}

    def _name(self, view: int) -> str:
        return inspect.inspect(self._host, view).sql

    def _read(self, view: int) -> None:
        table = inspect.inspect(self._host, view)
        values = commas(f"count(v.{column})" for column in self._protected(view))
        AsOwner(self._host, table.owner_oid).rows(f"SELECT {values} FROM {table.sql} v")

    def _protected(self, view: int) -> list[str]:
        rows: list[Row] = self._host.rows(PROTECTED, ["oid"], [view])
        return [row["name"] for row in rows]


PROTECTED = "SELECT quote_ident(attname) AS name FROM envelope_private.protected_column WHERE view = $1"


def opens(host: Host, layout: Layout, base: Table) -> None:
    """Raises Unsupported when the first values of a column do not open: one of them may be damaged, but not all."""
    for name in layout.protected:
        first = f"SELECT {faulty.fault(layout, name)} AS fault FROM {layout.base} t WHERE t.{ident(name)} IS NOT NULL"
        found = AsOwner(host, base.owner_oid).rows(f"{first} LIMIT {FIRST}")
        if found and all(row["fault"] == DOES_NOT_OPEN for row in found):
            raise errors.Unsupported(
                f"the values of column {name} of {base.sql} do not open under its row key as it is now",
                hint="Change the columns of its primary key back as they were.",
            )
