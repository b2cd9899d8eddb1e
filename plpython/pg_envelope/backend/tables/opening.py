"""Turns envelopes back into plain columns, in place. It loses no value that could be read."""

from __future__ import annotations

import json

from pg_envelope import errors
from pg_envelope.backend.faults import BEYOND_HELP
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.jobs import faulty
from pg_envelope.backend.rollout import proofs
from pg_envelope.backend.sqltext import ROW, commas, ident, literal, of_any_row
from pg_envelope.backend.tables import generate, inspect, whole
from pg_envelope.backend.tables.generate import Layout, Protected
from pg_envelope.backend.tables.generate.expressions import either
from pg_envelope.backend.tables.inspect import Table
from pg_envelope.backend.tables.owner import AsOwner

DAMAGED = ("error", "null")
# The SQLSTATEs of a value whose key is not there.
OF_A_KEY = ("55000", "42704")
# The error names so many of the rows whose values stop it.
SHOWN = 10


class Damaged(errors.Unsupported):
    """Values do not open. The SQLSTATE is XX001, as for any reader of them."""

    sqlstate = "XX001"


def check(damaged: str) -> None:
    """Raises BadInput."""
    if damaged not in DAMAGED:
        raise errors.BadInput("damaged must be 'error' or 'null'")


def open_columns(host: Host, key: Row, base: Table, layout: Layout, damaged: str) -> None:
    """Gives all protected columns of the base table their own types. Raises Damaged, where values do not open.

    `damaged` is 'null' to write NULL for values that nobody can open any more.
    """
    whole.refuse_missing(host, key, layout)
    owner = AsOwner(host, base.owner_oid)

    def opened(careful: bool) -> int:
        lost = _lost(owner, layout, careful) if damaged == "null" else 0
        proofs.begin_again(host, inspect.inspect(host, base.oid), layout)
        columns = (_opened(layout, protected, damaged, careful) for protected in layout.protected.values())
        owner.run(f"ALTER TABLE {base.sql} {commas(columns)}")
        return lost

    try:
        lost = faulty.despite(opened)
    except Exception as error:
        # The bad values are looked for only now: opening every value once more would double the time of the usual case.
        if str(getattr(error, "sqlstate", "")).startswith((*faulty.OF_A_VALUE, *OF_A_KEY)):
            refuse_damaged(owner, layout)
        raise
    if lost:
        host.warning(f"unprotect: values of {layout.view} that nobody could open, and are NULL now: {lost}")


def _lost(owner: AsOwner, layout: Layout, careful: bool) -> int:
    taken = [name for name, protected in layout.protected.items() if not protected.column.not_null]
    nullable = {name: faulty.fault(layout, name, careful=careful) for name in taken}
    if not nullable:
        return 0
    gone = f"{faulty.listing(layout, nullable, careful=careful)} AND {_beyond_help('f.reason')}"
    return owner.count(f"SELECT count(*) AS found FROM ({gone}) AS gone")


def _beyond_help(reason: str) -> str:
    return f"{reason} IN ({commas(map(literal, BEYOND_HELP))})"


def _opened(layout: Layout, protected: Protected, damaged: str, careful: bool) -> str:
    column = protected.column
    collation = f" COLLATE {column.collation}" if column.collation else ""
    value = either(layout, protected, generate.opened_as_role(layout, protected, ROW), ROW)
    if damaged == "null" and not column.not_null:
        gone = _beyond_help(faulty.fault(layout, column.name, ROW, careful=careful))
        value = f"CASE WHEN {gone} THEN NULL ELSE {value} END"
    return f"ALTER {ident(protected.plain or column.name)} TYPE {column.type}{collation} USING {of_any_row(value)}"


def refuse_damaged(owner: AsOwner, layout: Layout) -> None:
    """Raises Damaged. Its DETAIL names primary keys, as PostgreSQL's own errors do, and nothing that was encrypted."""
    found = faulty.listing(layout, faulty.faults(layout, careful=True), careful=True)
    counts = owner.rows(f"SELECT name, reason, count(*) AS count FROM ({found}) AS f GROUP BY 1, 2 ORDER BY 1, 2")
    if counts:
        some = owner.rows(f"{found} LIMIT {SHOWN}")
        raise Damaged(
            f"{layout.view} cannot be unprotected: values do not open; nothing was changed",
            detail="\n".join([*_counted(counts), *_named(some, sum(row["count"] for row in counts))]),
            hint=_hint(layout, counts),
        ) from None


def _counted(counts: list[Row]) -> list[str]:
    return [f"{row['name']}: {row['count']} {row['reason']}" for row in counts]


def _named(some: list[Row], of: int) -> list[str]:
    more = [f"- and {of - len(some)} more; CALL envelope.verify(...) lists them"] if of > len(some) else []
    return [*(f"- {row['name']} of {_row(row)}: {row['reason']}" for row in some), *more]


def _row(row: Row) -> str:
    """Writes a key as PostgreSQL does in its errors."""
    key = json.loads(row["row_key"])
    return f"({commas(key)})=({commas(key.values())})"


def _hint(layout: Layout, counts: list[Row]) -> str:
    mend = "Write each value anew through the view, or delete the row."
    if any(row["reason"] not in BEYOND_HELP for row in counts):
        return f"{mend} What is under a suspended key opens again after CALL envelope.unsuspend(...)."
    if any(layout.protected[row["name"]].column.not_null for row in counts):
        return f"{mend} A column that is NOT NULL cannot take NULL for them."
    return f"{mend} Or CALL envelope.unprotect(..., damaged => 'null'): NULL is written for them, for good."
