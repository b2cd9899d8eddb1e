"""Names the indexes of values and those of tokens, while a roll-out needs both.

The one that is in force has the name that the table's owner gave it, because errors tell it. The other one has a
temporary name.
"""

from __future__ import annotations

from pg_envelope.backend.host import Host
from pg_envelope.backend.search import carried
from pg_envelope.backend.search.carried import Carried, Index
from pg_envelope.backend.search.token_indexes import temporary_name
from pg_envelope.backend.sqltext import derived_name, ident

OF_TOKENS = """
SELECT bool_or(a.atttypid = 'envelope_search.token'::regtype) AS tokens
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indexrelid
WHERE i.indrelid = $1 AND c.relname = $2 HAVING count(*) > 0"""


def of_values(host: Host, key_uuid: str) -> list[Index]:
    """Returns the indexes for which those of tokens stand in."""
    return [one for one in carried.recorded(host, key_uuid) if isinstance(one, Index)]


def standing_in(index: Index) -> Index:
    """Returns the index under its temporary name."""
    return carried.renamed(index, temporary_name(index.name))


def put_in_force(host: Host, key_uuid: str, base: int, schema: str, *, tokens: bool) -> None:
    """Gives the names of the indexes to those of tokens, or back to those of values."""
    for one in of_values(host, key_uuid):
        other = temporary_name(one.name)
        now, waits = _of_tokens(host, base, one.name), _of_tokens(host, base, other)
        if None not in (now, waits) and now != tokens:
            aside = derived_name(one.name, "_pg_envelope_aside")
            for old, new in ((one.name, aside), (other, one.name), (aside, other)):
                _rename(host, schema, old, new)


def missing(host: Host, key_uuid: str, base: int, schema: str) -> list[Carried]:
    """Returns what must be made anew, once the indexes of tokens are gone. An index of values that a roll-out has kept
    gets its name again.
    """
    return [one for one in carried.recorded(host, key_uuid) if not _is_kept(host, one, base, schema)]


def _is_kept(host: Host, one: Carried, base: int, schema: str) -> bool:
    if not isinstance(one, Index):
        return False
    if _of_tokens(host, base, other := temporary_name(one.name)) is not None:
        _rename(host, schema, other, one.name)
    return _of_tokens(host, base, one.name) is not None


def _of_tokens(host: Host, base: int, name: str) -> bool | None:
    """Tells whether an index of a table is one of tokens. None: the table has no such index."""
    row = host.row(OF_TOKENS, ["oid", "name"], [base, name])
    return None if row is None else bool(row["tokens"])


def _rename(host: Host, schema: str, old: str, new: str) -> None:
    host.run(f"ALTER INDEX {ident(schema)}.{ident(old)} RENAME TO {ident(new)}")
