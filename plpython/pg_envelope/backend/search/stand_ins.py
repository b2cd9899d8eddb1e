"""Names the indexes of values and those of tokens, while a roll-out needs both.

The one that is in force has the name that the table's owner gave it, because errors tell it. The other one has a
temporary name.
"""

from __future__ import annotations

from pg_envelope.backend.host import Host
from pg_envelope.backend.search import carried
from pg_envelope.backend.search.carried import Carried, Dropped, Index
from pg_envelope.backend.search.token_indexes import temporary_name
from pg_envelope.backend.sqltext import derived_name, ident
from pg_envelope.backend.tables.dependents.statistics import Statistics
from pg_envelope.backend.tables.generate.layout import Layout

OF_TOKENS = """
SELECT bool_or(a.atttypid = 'envelope_search.token'::regtype) AS tokens
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indexrelid
WHERE i.indrelid = $1 AND c.relname = $2 HAVING count(*) > 0"""

CONSTRAINT = "SELECT oid FROM pg_catalog.pg_constraint WHERE conrelid = $1 AND conname = $2"


def of_values(host: Host, layout: Layout) -> list[Index]:
    """Returns the indexes for which those of tokens stand in."""
    return [one for one in carried.of_rollout(host, layout) if isinstance(one, Index)]


def standing_in(index: Index) -> Index:
    """Returns the index under its temporary name."""
    return carried.renamed(index, temporary_name(index.name))


def put_in_force(host: Host, layout: Layout, base: int, *, tokens: bool) -> None:
    """Gives the names of the indexes to those of tokens, or back to those of values."""
    for one in of_values(host, layout):
        other = temporary_name(one.name)
        now, waits = _of_tokens(host, base, one.name), _of_tokens(host, base, other)
        if None not in (now, waits) and now != tokens:
            aside = derived_name(one.name, "_pg_envelope_aside")
            for old, new in ((one.name, aside), (other, one.name), (aside, other)):
                _rename(host, layout.schema, old, new)


def lacking(host: Host, layout: Layout, base: int) -> list[Index | Dropped]:
    """Returns what has no index of values now, and can have one before the end of a roll-out.

    A constraint that was dropped on demand comes back in the end: it may be more than an index.
    """
    return [
        one for one in carried.of_rollout(host, layout) if not isinstance(one, Statistics) and _lacks(host, one, base)
    ]


def _lacks(host: Host, one: Index | Dropped, base: int) -> bool:
    there = {_of_tokens(host, base, name) for name in (one.name, temporary_name(one.name))}
    return False not in there if isinstance(one, Index) else not one.is_constraint and there == {None}


def drop_made(host: Host, layout: Layout, base: int, *, are_kept: bool) -> None:
    """Drops the indexes of values that a way back has made. `are_kept`: those for which tokens stand in are older, and
    stay.
    """
    for one in carried.of_rollout(host, layout):
        other = temporary_name(one.name)
        if not (are_kept and isinstance(one, Index)) and _of_tokens(host, base, other) is False:
            host.run(f"DROP INDEX {ident(layout.schema)}.{ident(other)}")


def missing(host: Host, layout: Layout, base: int, table: str) -> list[Carried]:
    """Returns what must be made anew, once the indexes of tokens are gone. An index of values that a roll-out has kept
    or made gets its name again. `table` is the base table's name now.
    """
    return [one for one in carried.of_rollout(host, layout) if not _is_there(host, one, base, layout.schema, table)]


def _is_there(host: Host, one: Carried, base: int, schema: str, table: str) -> bool:
    if isinstance(one, Statistics):
        return False
    if _of_tokens(host, base, other := temporary_name(one.name)) is None:
        return isinstance(one, Index) and _of_tokens(host, base, one.name) is not None
    _rename(host, schema, other, one.name)
    if one.is_constraint and not host.row(CONSTRAINT, ["oid", "name"], [base, one.name]):
        host.run(f"ALTER TABLE {table} ADD CONSTRAINT {ident(one.name)} UNIQUE USING INDEX {ident(one.name)}")
    for setting in one.settings(schema, table):
        host.run(setting)
    return True


def _of_tokens(host: Host, base: int, name: str) -> bool | None:
    """Tells whether an index of a table is one of tokens. None: the table has no such index."""
    row = host.row(OF_TOKENS, ["oid", "name"], [base, name])
    return None if row is None else bool(row["tokens"])


def _rename(host: Host, schema: str, old: str, new: str) -> None:
    host.run(f"ALTER INDEX {ident(schema)}.{ident(old)} RENAME TO {ident(new)}")
