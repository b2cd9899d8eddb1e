"""Writes the CHECK constraints by which PostgreSQL itself proves that a roll-out is at its end.

A constraint that is NOT VALID holds for each row that is written from now on. VALIDATE CONSTRAINT then looks at the
rows of before, while the table is in use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pg_envelope.backend.host import Host
from pg_envelope.backend.sqltext import commas, derived_name, ident
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.generate.expressions import is_null
from pg_envelope.backend.tables.inspect import Table

PROTECT, UNPROTECT = "protect", "unprotect"
# The step before PROTECT for tables with search columns: values stay in the clear, and every row gets its tokens.
TOKENS = "tokens"
ROLLED_OUT = """
SELECT attname AS name FROM envelope_private.field
WHERE key_uuid = $1 AND attname = ANY ($2::name[]) AND plain_column IS NOT NULL"""


def sealed(name: str) -> str:
    """Returns the name of the CHECK that no value of a column is in the clear. It stays for good."""
    return derived_name(name, "_is_sealed")


def conditions(layout: Layout, act: str) -> dict[str, str]:
    """Returns what holds at the end of a roll-out, by the name of its constraint."""
    return dict(_conditions(layout, act))


def _conditions(layout: Layout, act: str) -> Iterator[tuple[str, str]]:
    for name, protected in layout.protected.items():
        plain = protected.plain or ""
        empty, full, told = (plain, name, sealed(name)) if act == PROTECT else (name, plain, _opened(name))
        yield told, is_null(ident(empty))
        if protected.column.not_null:
            yield given(full), f"NOT ({is_null(ident(full))})"


def _opened(name: str) -> str:
    return derived_name(name, "_is_open")


def given(column: str) -> str:
    """Returns the name of the CHECK by which SET NOT NULL need not read the table."""
    return derived_name(column, "_is_given")


def add(layout: Layout, act: str, there: set[str] | frozenset[str] = frozenset()) -> list[str]:
    """Returns parts of an ALTER TABLE for the constraints that are not there yet."""
    wanted = conditions(layout, act).items()
    return [
        f"ADD CONSTRAINT {ident(name)} CHECK ({condition}) NOT VALID" for name, condition in wanted if name not in there
    ]


def rename(host: Host, key_uuid: str, base: Table, renamed: Mapping[str, str]) -> None:
    """Gives these constraints the names that go with new names of columns.

    It takes two steps, because columns may have exchanged their names.
    """
    columns = [row["name"] for row in host.rows(ROLLED_OUT, ["uuid", "text[]"], [key_uuid, list(renamed)])]
    there = {check.name for check in base.checks}
    pairs = {named(old): named(renamed[old]) for named in (sealed, _opened, given) for old in columns}
    found = {old: new for old, new in pairs.items() if old in there}
    for place, old in enumerate(found):
        host.run(f"ALTER TABLE {base.sql} RENAME CONSTRAINT {ident(old)} TO {ident(f'pg_envelope {place}')}")
    for place, new in enumerate(found.values()):
        host.run(f"ALTER TABLE {base.sql} RENAME CONSTRAINT {ident(f'pg_envelope {place}')} TO {ident(new)}")


def begin_again(host: Host, base: Table, layout: Layout) -> None:
    """Drops these constraints, and the CHECKs of the table's own that a way back has added already."""
    drop(host, base.sql, base, layout, frozenset(check.name for check in layout.checks))


def drop(host: Host, table: str, base: Table, layout: Layout, also: frozenset[str] = frozenset()) -> None:
    """Drops all of these constraints, and those named `also`, from the base table, which has the name `table` now."""
    names = conditions(layout, PROTECT).keys() | conditions(layout, UNPROTECT).keys()
    # A value may have become nullable since.
    names |= {given(column) for pair in layout.plains.items() for column in pair} | also
    found = [f"DROP CONSTRAINT {ident(check.name)}" for check in base.checks if check.name in names]
    if found:
        host.run(f"ALTER TABLE {table} {commas(found)}")
